"""What integrity reaches outside itself."""
