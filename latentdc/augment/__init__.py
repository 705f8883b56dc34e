"""Changes of images by draws that are values: DSA, and the views that students see."""
