"""What becomes of Karmada's kinds when they are written: filled in, judged, refused in the words of Karmada's webhooks."""
