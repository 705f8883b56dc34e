"""Readers of sets that were made elsewhere: image folders, columns of tables, tensors."""
