"""The REST edge: translates HTTP into calls of the domain, and decides nothing."""
