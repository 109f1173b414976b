"""The controllers of a member cluster, one room each; none knows another. They meet only in API objects."""
