"""The privacy gate: what identifies a person in files and in case ids, and pseudonyms that take its place.

Nothing in here, and nothing that it says, repeats what it found: fields are named, their content is not.
"""

from data_prep.privacy.gate import privacy_gate
from data_prep.privacy.ids import Suspicion, suspicious_ids
from data_prep.privacy.pseudonyms import Pseudonyms
from data_prep.privacy.trace import Trace, TraceKind
from data_prep.privacy.traces import traces

__all__ = ["Pseudonyms", "Suspicion", "Trace", "TraceKind", "privacy_gate", "suspicious_ids", "traces"]
