"""What test suites use: the pytest plugin and the parametrization of its tests."""
