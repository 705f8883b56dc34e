"""Sets that others left behind: image folders, the columns of Hub sets, tensors."""
