"""Simulation: scans with added noise, low dose or sparse views, made from clean scans."""
