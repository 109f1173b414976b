"""Users of identity providers: OpenID Connect tokens, believed as an AuthenticationConfiguration says."""
