"""The checks of the conformance suite, by subject. Each is a mixin of `podium.testing.Stage1Suite`."""
