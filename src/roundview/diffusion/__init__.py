"""Generators: noise schedules, samplers, autoencoders and the models that draw views."""
