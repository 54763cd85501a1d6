"""Everything that speaks Cedar or SMT-LIB. Runs inside worker processes: the service itself never imports a solver."""
