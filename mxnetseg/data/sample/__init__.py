"""Built-in data set of painted street scenes."""
