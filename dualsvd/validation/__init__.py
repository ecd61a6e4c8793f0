"""Cross-validation: every independent way to a derivative, compared with every other."""

from .cross import cross_validate as cross_validate
from .report import DisagreementError as DisagreementError
from .report import Row as Row
from .report import ValidationReport as ValidationReport
from .rules import check_rules as check_rules
