"""The built-in data set of painted street scenes."""
