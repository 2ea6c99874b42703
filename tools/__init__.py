"""Programs of the checkout: bringing up a machine and writing generated files."""
