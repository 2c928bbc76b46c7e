"""What is wrong with a recurrent network, why, and what to do: measured, in sentences."""

from recurrax.diagnosis.diagnose import diagnose
from recurrax.diagnosis.records import (
    Diagnosis,
    Finding,
    GateSummary,
    GradientFlow,
    LayerDiagnosis,
)

__all__ = [
    "Diagnosis",
    "Finding",
    "GateSummary",
    "GradientFlow",
    "LayerDiagnosis",
    "diagnose",
]
