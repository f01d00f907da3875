"""From the files of a data set to one committed Zarr store: adapters, readers, the writer. Knows no Ray."""
