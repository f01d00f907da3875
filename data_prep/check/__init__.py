"""Everything that is wrong with a source, before anything is made of it: `udt-cluster data check`."""

from data_prep.check.finding import ROWS, Finding, Severity
from data_prep.check.report import CheckReport
from data_prep.check.run import check_source

__all__ = ["ROWS", "CheckReport", "Finding", "Severity", "check_source"]
