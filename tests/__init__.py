"""All tests of the service; found as the package `tests` from the root of the repository."""
