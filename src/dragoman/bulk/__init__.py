"""Tables and texts of any size: blocks of rows, each of which becomes a file, by one process or by many."""
