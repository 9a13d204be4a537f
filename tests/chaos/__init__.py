"""Faults injected into real processes around real servers, and the tables that must not show them."""
