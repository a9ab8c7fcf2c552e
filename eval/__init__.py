"""Figures, plots and reports about everything below."""
