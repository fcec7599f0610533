"""The jobs engine: long work that survives restarts and can be watched and steered."""
