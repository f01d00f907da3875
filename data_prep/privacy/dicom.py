"""Attributes of DICOM that identify a person.

The lists follow the Basic Application Level Confidentiality Profile of DICOM PS3.15, Annex E, table E.1-1
(https://dicom.nema.org/medical/dicom/current/output/chtml/part15/chapter_E.html), as far as images carry them.
"""

import io
import warnings
from typing import Any

from data_prep.privacy.trace import Trace, words

PERSON = words(
    """
    PatientName PatientID IssuerOfPatientID PatientBirthDate PatientBirthTime PatientBirthName PatientMotherBirthName
    PatientAddress PatientTelephoneNumbers PatientTelecomInformation OtherPatientIDs OtherPatientIDsSequence
    OtherPatientNames MedicalRecordLocator MilitaryRank BranchOfService CountryOfResidence RegionOfResidence
    PatientInsurancePlanCodeSequence InsurancePlanIdentification ResponsiblePerson ResponsibleOrganization
    PatientReligiousPreference EthnicGroup EthnicGroups Occupation PersonName PersonAddress PersonTelephoneNumbers
    AccessionNumber AdmissionID ServiceEpisodeID IssuerOfAdmissionIDSequence CurrentPatientLocation
    PatientInstitutionResidence ReferringPhysicianName ReferringPhysicianAddress ReferringPhysicianTelephoneNumbers
    ReferringPhysicianIdentificationSequence ConsultingPhysicianName PerformingPhysicianName
    PerformingPhysicianIdentificationSequence PhysiciansOfRecord PhysiciansOfRecordIdentificationSequence
    NameOfPhysiciansReadingStudy PhysiciansReadingStudyIdentificationSequence RequestingPhysician OperatorsName
    OperatorIdentificationSequence ReviewerName VerifyingObserverName InterpretationAuthor InterpretationRecorder
    InterpretationTranscriber InstitutionName InstitutionAddress InstitutionCodeSequence
    """
)
"""Whoever reads one of these knows the patient, or somebody who knows them."""

INDIRECT = words(
    """
    PatientSex PatientAge PatientSize PatientWeight PatientComments AdditionalPatientHistory PatientState MedicalAlerts
    Allergies PregnancyStatus SmokingStatus LastMenstrualDate SpecialNeeds AdmittingDiagnosesDescription
    InstitutionalDepartmentName StationName DeviceSerialNumber GantryID DetectorID PlateID CassetteID
    StudyDate SeriesDate AcquisitionDate AcquisitionDateTime ContentDate InstanceCreationDate DateOfSecondaryCapture
    StudyTime SeriesTime AcquisitionTime ContentTime InstanceCreationTime AdmittingDate ScheduledStudyStartDate
    PerformedProcedureStepStartDate PerformedProcedureStepID PerformedProcedureStepDescription
    RequestedProcedureID RequestedProcedureDescription RequestedProcedureComments ReasonForStudy StudyID StudyComments
    StudyDescription SeriesDescription ProtocolName ImageComments FrameComments AcquisitionComments
    DerivationDescription VisitComments TextComments TextString UnformattedTextValue ContentCreatorName
    StudyInstanceUID SeriesInstanceUID SOPInstanceUID FrameOfReferenceUID StudyIDIssuer ContributingEquipmentSequence
    RequestAttributesSequence OriginalAttributesSequence OverlayComments CurveData ModifiedAttributesSequence
    """
)
"""Dates, numbers and free text by which somebody with another list finds the patient."""

_PICTURES_OF_SCREENS = frozenset({"US", "IVUS", "ES", "XC", "GM", "OT", "SC"})


def dicom_traces(data: bytes) -> list[Trace]:
    """Attributes with a value, nested ones too; private elements; and whether text is drawn into the pixels."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    from data_prep.readers.dicom_meta import refuse_container

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            refuse_container(data)
            dataset = dcmread(io.BytesIO(data), stop_before_pixels=True)
            elements = [(e.keyword, e.tag, bool(e.value)) for e in dataset.iterall()]
    except (InvalidDicomError, OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError):
        return []  # whoever wants its pixels will complain
    found = {
        Trace("identifying" if word in PERSON else "text", f"DICOM {word} {tag}")
        for word, tag, has_value in elements
        if has_value and word in PERSON | INDIRECT
    }
    if private := sum(tag.is_private for _, tag, _ in elements):
        found.add(Trace("text", "DICOM private elements", private))
    return [*found, *_drawn(dataset)]


def _drawn(dataset: Any) -> list[Trace]:
    said = str(dataset.get("BurnedInAnnotation", "")).upper()
    if said == "YES":
        return [Trace("burned_in", "DICOM BurnedInAnnotation is YES")]
    kind, modality = [str(part) for part in dataset.get("ImageType", [])], str(dataset.get("Modality", ""))
    if said != "NO" and (modality in _PICTURES_OF_SCREENS or ("SECONDARY" in kind and dataset.get("ConversionType"))):
        return [Trace("burned_in", "DICOM pictures of a screen (modality or ConversionType), nothing said of text")]
    return []
