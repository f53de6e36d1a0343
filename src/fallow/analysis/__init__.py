"""What two models have in common: distances, spectra, supports and residuals of their weights."""
