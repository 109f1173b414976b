"""Users' policies in CEL: ValidatingAdmissionPolicy and MutatingAdmissionPolicy, with their bindings, as upstream judges by them.

    plans        policies and bindings as they were read, their expressions compiled when they are first needed
    registered   which of them a write may be about, read from the watch cache at each change
    params       the objects that a binding names as parameters
    judging      what expressions are given of a write, and who answers what they ask
    validating   the plugin that refuses, warns and annotates
    mutating     the plugin that changes; `patching` is how

Nothing is waited for. Where there is no policy a write pays one look.
"""
