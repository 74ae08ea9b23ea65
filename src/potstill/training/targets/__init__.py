"""Targets: what should a trained position look like?"""
