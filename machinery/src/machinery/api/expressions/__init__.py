"""Expressions in CEL, as Kubernetes has them: compiled in its words, with its functions, run within bounds.

source      what the library's parser does not know, written otherwise: macros of two variables, `Object{…}`
library     the environments that expressions are checked and run in
functions/  Kubernetes' own functions
checked     syntax trees with types
compiling   text → program, or a complaint in upstream's words
records     the types of `request`, `namespaceObject` and, out of a schema, of `object`
"""
