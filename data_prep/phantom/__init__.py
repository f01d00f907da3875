"""Synthetic data sets in the layouts of real ones: to try everything without a patient's data.

They are drawings, not simulations: a network that segments them has learned nothing about patients. Every folder says
so in a README.txt, and every NIfTI in its description.
"""

from data_prep.phantom.cardiac import acdc
from data_prep.phantom.glands import glas

__all__ = ["acdc", "glas"]
