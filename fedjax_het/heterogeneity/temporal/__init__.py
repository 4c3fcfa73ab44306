"""Clients that change over time: each a Federation made into one with phases and a schedule of them."""

from fedjax_het.heterogeneity.temporal.delay import label_delay
from fedjax_het.heterogeneity.temporal.gradual import gradual
from fedjax_het.heterogeneity.temporal.growing import growing
from fedjax_het.heterogeneity.temporal.recurring import recurring
from fedjax_het.heterogeneity.temporal.rotating import rotating_classes
from fedjax_het.heterogeneity.temporal.sudden import sudden

__all__ = ["gradual", "growing", "label_delay", "recurring", "rotating_classes", "sudden"]
