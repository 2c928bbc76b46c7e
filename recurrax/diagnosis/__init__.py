"""What is wrong with a recurrent network, why, and what to do: measured, in sentences."""

from recurrax.diagnosis.diagnose import diagnose
from recurrax.diagnosis.records import (
    CAUSES,
    Diagnosis,
    Finding,
    GateSummary,
    GradientFlow,
    LayerDiagnosis,
)

__all__ = [
    "CAUSES",
    "Diagnosis",
    "Finding",
    "GateSummary",
    "GradientFlow",
    "LayerDiagnosis",
    "diagnose",
]
