"""The tracking schema `reconciler` of every managed database."""
