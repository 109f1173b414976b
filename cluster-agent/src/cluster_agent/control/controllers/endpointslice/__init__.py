"""EndpointSlice controller: keeps the slices of a Service in step with its pods."""
