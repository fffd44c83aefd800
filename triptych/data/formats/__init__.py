"""How files of each format become parts of a data set; each reader looks at headers only, the rest is read on demand."""
