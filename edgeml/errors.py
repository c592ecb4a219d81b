"""Every exception of EdgeML, in one tree.

Each message states the cause and then the remedy, and names the column, estimator, parameter or file member.
The command line exits with ``exit_code``: 1 when a check said no, 2 for bad usage or input, 3 for a fault of
ours.

EdgeMLError
├── CompileError                     a pipeline could not become a bundle; nothing was written
│   ├── NotFittedError               the pipeline, or a step of it, is not fitted
│   ├── UnsupportedEstimatorError    no converter, and skl2onnx has none either
│   ├── UnsupportedParameterError    an estimator has a parameter value that cannot be honoured
│   ├── SampleError                  the sample does not fit the pipeline, or is too small
│   ├── PipelineFileError            the pipeline file cannot be read or is not trusted
│   ├── FormatError                  a format was asked for that cannot express the pipeline
│   ├── ParityError                  the compiled artifact and scikit-learn disagree
│   ├── QuantizeError                an unknown way to quantise, or one that cannot be used here
│   ├── BudgetValueError             a budget that is malformed or contradicts itself
│   ├── BudgetError                  no quantised form keeps the budget: says the best that was reached
│   └── UnknownTargetError           no device profile has that name, or its file is malformed
├── ProgramError                     an illegal program: a fault of ours
│   └── PassError                    a pass broke the program: names the pass and those before it
├── InputError (ValueError)          rows handed to a model are not what its schema says
│   ├── MissingColumnError
│   ├── ExtraColumnError
│   ├── ColumnTypeError              a value of the wrong type: a string where a number is due
│   ├── ShapeError                   wrong number of columns or dimensions
│   ├── EmptyInputError              zero rows
│   ├── UnknownCategoryError         a category the encoder was told to refuse
│   ├── NonFiniteError               NaN or infinity where scikit-learn refuses it
│   └── OutOfRangeError              numbers that the artifact's arithmetic (float32) cannot follow
├── BundleError                      a bundle file cannot be trusted or read
│   ├── BundleFileError              the file cannot be opened, read or written
│   ├── BundleClosedError            a member was asked for after close
│   ├── NotABundleError              not a ZIP file
│   ├── TruncatedBundleError
│   ├── ExtraBytesError              bytes before, between or after the members
│   ├── BundleVersionError           written by a newer format version
│   ├── MemberError                  a member is missing, duplicated, misnamed, oversized or misplaced
│   │   ├── DuplicateMemberError
│   │   ├── MemberNameError          path traversal, absolute or odd names
│   │   ├── MemberOrderError         members stand in one order, so that equal contents are equal bytes
│   │   ├── MemberSizeError          sizes or offsets that do not add up, or over the limit
│   │   ├── MemberOverlapError       two members share bytes
│   │   ├── MemberAlignmentError     a member does not start at a multiple of 64 bytes
│   │   ├── MemberHeaderError        the local and the central ZIP header disagree, or are not of the format
│   │   ├── EncryptedMemberError
│   │   ├── CompressedMemberError    members are stored, never compressed: no ZIP bombs
│   │   ├── Zip64Error               64-bit ZIP fields
│   │   ├── DataDescriptorError      sizes that follow the data instead of preceding it
│   │   ├── MissingMemberError
│   │   └── UnlistedMemberError      a member the manifest does not list
│   ├── ChecksumError                bytes that do not match their CRC-32
│   ├── DigestError                  bytes that do not match the manifest's SHA-256
│   ├── ManifestError                JSON that is malformed or lacks what the format asks
│   │   └── JSONError                not JSON as the format has it
│   │       ├── JSONLimitError       too large, too deep, or a number with too many digits
│   │       ├── DuplicateKeyError
│   │       └── NonFiniteNumberError NaN or infinity, by name or by overflow
│   ├── ArrayError                   a raw array with a wrong dtype, shape or offset
│   └── SignatureError               missing, malformed or wrong signature
│       ├── NotSignedError
│       └── WrongSignatureError
├── KeyFileError                     a key file that cannot be read or is of the wrong kind
├── SigningNotInstalledError         keys and signatures need a package: says the pip command
├── ProfileError                     a reference profile that is malformed
│   └── ProfileMismatchError         counts over different bins cannot be added
├── TelemetryError                   recording, keeping or sending; never raised into a call that predicts
│   ├── WireError                    a window or a batch that is not of the format
│   ├── SpoolError                   the spool cannot be opened, read or written
│   │   ├── SpoolFullError           the disk, or the spool's own limit of bytes, is full
│   │   └── SpoolKeyError            the spool's key is missing, malformed or another one
│   ├── IdentityError                the device's key or enrolment cannot be read or written
│   ├── EnrolmentError               the monitor did not take the device
│   ├── AgentError                   the agent cannot run: settings, or another agent that does
│   └── OtlpError                    figures cannot be sent to an OpenTelemetry collector: settings, packages
├── MonitorError                     the central server
│   ├── MonitorSettingsError         an option or a file the server was started with
│   ├── MonitorDatabaseError         the database cannot be reached, or is of another version
│   ├── RequestError                 the server does not take a request: has its HTTP status and a code
│   ├── BackupError                  a backup that cannot be made, read or trusted
│   └── SimulationError              simulated devices could not enrol, or the server is not one
├── VerificationError                golden rows gave other answers on this machine
└── EngineError
    ├── KernelsError                 compiled kernels cannot be made or kept: asked by `edgeml warm`
    ├── UnknownEngineError
    ├── EngineNotInstalledError      says the pip command
    └── EngineNotInBundleError       the bundle has no artifact for that engine, and why
"""

from __future__ import annotations

from functools import partial
from typing import Any


class EdgeMLError(Exception):
    """Base of every EdgeML exception. ``cause`` and ``remedy`` are kept apart for tools."""

    exit_code = 3

    def __init__(self, cause: str, remedy: str = "") -> None:
        self.cause = cause
        self.remedy = remedy
        super().__init__(f"{cause}\n{remedy}" if remedy else cause)

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions cross process borders (parity workers, pytest-xdist): keep both halves.
        return (type(self), (self.cause, self.remedy))


class CompileError(EdgeMLError):
    exit_code = 2


class NotFittedError(CompileError): ...


class UnsupportedEstimatorError(CompileError): ...


class UnsupportedParameterError(CompileError): ...


class SampleError(CompileError): ...


class PipelineFileError(CompileError): ...


class FormatError(CompileError): ...


class ParityError(CompileError):
    exit_code = 1


class QuantizeError(CompileError): ...


class BudgetValueError(CompileError): ...


class BudgetError(CompileError):
    exit_code = 1


class UnknownTargetError(CompileError): ...


class ProgramError(EdgeMLError): ...


class PassError(ProgramError): ...


class InputError(EdgeMLError, ValueError):
    exit_code = 2


class MissingColumnError(InputError): ...


class ExtraColumnError(InputError): ...


class ColumnTypeError(InputError): ...


class ShapeError(InputError): ...


class EmptyInputError(InputError): ...


class UnknownCategoryError(InputError): ...


class NonFiniteError(InputError): ...


class OutOfRangeError(InputError): ...


class BundleError(EdgeMLError):
    exit_code = 2


class BundleFileError(BundleError): ...


class BundleClosedError(BundleError): ...


class NotABundleError(BundleError): ...


class TruncatedBundleError(BundleError): ...


class ExtraBytesError(BundleError): ...


class BundleVersionError(BundleError): ...


class MemberError(BundleError): ...


class DuplicateMemberError(MemberError): ...


class MemberNameError(MemberError): ...


class MemberOrderError(MemberError): ...


class MemberSizeError(MemberError): ...


class MemberOverlapError(MemberError): ...


class MemberAlignmentError(MemberError): ...


class MemberHeaderError(MemberError): ...


class EncryptedMemberError(MemberError): ...


class CompressedMemberError(MemberError): ...


class Zip64Error(MemberError): ...


class DataDescriptorError(MemberError): ...


class MissingMemberError(MemberError): ...


class UnlistedMemberError(MemberError): ...


class ChecksumError(BundleError): ...


class DigestError(BundleError): ...


class ManifestError(BundleError): ...


class JSONError(ManifestError): ...


class JSONLimitError(JSONError): ...


class DuplicateKeyError(JSONError): ...


class NonFiniteNumberError(JSONError): ...


class ArrayError(BundleError): ...


class SignatureError(BundleError):
    exit_code = 1


class NotSignedError(SignatureError): ...


class WrongSignatureError(SignatureError): ...


class KeyFileError(EdgeMLError):
    exit_code = 2


class SigningNotInstalledError(EdgeMLError):
    exit_code = 2


class ProfileError(EdgeMLError):
    exit_code = 2


class ProfileMismatchError(ProfileError): ...


class TelemetryError(EdgeMLError):
    exit_code = 2


class WireError(TelemetryError): ...


class SpoolError(TelemetryError): ...


class SpoolFullError(SpoolError): ...


class SpoolKeyError(SpoolError): ...


class IdentityError(TelemetryError): ...


class EnrolmentError(TelemetryError):
    exit_code = 1


class AgentError(TelemetryError): ...


class OtlpError(TelemetryError): ...


class MonitorError(EdgeMLError):
    exit_code = 2


class MonitorSettingsError(MonitorError): ...


class MonitorDatabaseError(MonitorError): ...


class RequestError(MonitorError):
    """``code`` is for programs, ``status`` and ``headers`` are those of the HTTP response."""

    def __init__(
        self,
        cause: str,
        remedy: str = "",
        *,
        status: int = 400,
        code: str = "bad_request",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(cause, remedy)
        self.status, self.code, self.headers = status, code, headers or {}

    def __reduce__(self) -> tuple[Any, ...]:
        more: dict[str, Any] = {"status": self.status, "code": self.code, "headers": self.headers}
        return (partial(type(self), **more), (self.cause, self.remedy))


class BackupError(MonitorError): ...


class SimulationError(MonitorError): ...


class VerificationError(EdgeMLError):
    exit_code = 1


class EngineError(EdgeMLError):
    exit_code = 2


class KernelsError(EngineError):
    exit_code = 1


class UnknownEngineError(EngineError): ...


class EngineNotInstalledError(EngineError): ...


class EngineNotInBundleError(EngineError): ...
