"""Tests of orthanctw."""
