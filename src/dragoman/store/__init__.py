"""What is resident: pieces of a model that are read from the disk when they are needed."""
