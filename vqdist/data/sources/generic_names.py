"""Words in file and folder names that do not identify a person: modalities, sessions, slices, masks and contents."""

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MODALITIES = _words("""
    t1 t1w t1ce t1c t1n t1gd t1post t2 t2w t2f t2star flair pd pdw dwi adc dti swi asl bold mra ct pet fmri
""")
_MODALITY = rf"(?:{'|'.join(sorted(_MODALITIES))})"
_NUMBERED = r"(?:ses|session|visit|run|echo|acq|tp|timepoint|time|wave|year|exam|phase)[-_]?\d+"
_SESSION = rf"(?:{_NUMBERED}|ses-[A-Z0-9]+|baseline|follow-?up)"
_DATE = r"(?:19|20)\d\d[-_]?(?:0[1-9]|1[0-2])[-_]?(?:0[1-9]|[12]\d|3[01])"
_SLICE = r"(?:slice|slc|sl|frame|z)[-_]?\d+"
_SEPARATOR = re.compile(r"[-_. +]+")

_VISIT = re.compile(rf"(?:^|(?<=[-_. ]))(?:{_SESSION}|{_DATE})(?=[-_. ]|$)", re.IGNORECASE)
_ENDING = re.compile(rf"(?:^|[-_. ]+)(?:{_MODALITY}|{_SESSION}|{_SLICE})$|slice[-_]?\d+$", re.IGNORECASE)
_BEGINNING = re.compile(rf"^(?:{_MODALITY}|{_DATE})[-_. ]+", re.IGNORECASE)
_SLICE_ENDING = re.compile(rf"(?:(?:^|[-_. ]+){_SLICE}|slice[-_]?\d+)$", re.IGNORECASE)
_COUNTER = re.compile(r"[-_. ]+\d+$")
_CHANNEL = re.compile(r"_000\d$")  # nnU-Net: CASE_0000.nii.gz is the first channel of CASE
_CHANNEL_FOLDER = re.compile(r"images(tr|ts|va)", re.IGNORECASE)

# Contents and processing steps: the words of names such as T1w_acpc_dc_restore_brain or img_001.
_CONTENTS = _words("""
    brain head image images img imgs imaging scan scans volume volumes vol mri mr anat anatomical data dataset raw
    orig norm nu struct structural mprage spgr bet stripped skullstripped ss preproc processed restore acpc dc native
    warped reg registered mni space final output result results file files series pic pics picture pictures photo
    photos slice slices frame frames original converted nii nifti png jpg jpeg
""")
_PROCESSED = re.compile(
    rf"(?:^|[-_. ]+){_MODALITY}(?:[-_. ]+(?:{'|'.join(sorted(_CONTENTS))}))+$", re.IGNORECASE
)  # alice_T1_brain, beside alice_T1
# Months since the first visit after a name with a number: MCI_0001_bl, MCI_0001_m12.
_MONTH_WORD = r"(?<=\d)[-_. ]+(?:bl|m(?:0[036]|12|18|24|30|36|48|60|72|84|96|1[02]\d))"
_MONTH = re.compile(rf"{_MONTH_WORD}$", re.IGNORECASE)
_MONTH_INSIDE = re.compile(rf"{_MONTH_WORD}(?=[-_. ]|$)", re.IGNORECASE)
# Folders that hold several people, or one kind of files of each.
_GROUPS = _words("site center centre hospital clinic cohort group batch part disc disk")
_COHORTS = _words("""
    hgg lgg ad emci lmci mci smc cn nc hc patients cases controls control healthy normal abnormal sick disease diseased
""")
_FOLDERS = _COHORTS | _words("""
    subjects participants persons func fmap perf dicom derivatives sourcedata rawdata mninonlinear imagestr imagests
    imagesva labelstr labelsts
""")
_FOLDER = re.compile(
    rf"{_MODALITY}|{_SESSION}|{_DATE}|(?:fold|{'|'.join(sorted(_GROUPS))})[-_ ]?(?:\d{{1,3}}|[A-Z])?", re.IGNORECASE
)
_GROUP_FOLDER = re.compile(rf"(?:{'|'.join(sorted(_GROUPS))})[-_ ]?(?:\d{{1,3}}|[A-Z])", re.IGNORECASE)

_MASK_WORDS = _words("""
    seg segm segmentation segmentations mask masks brainmask label labels labelmap roi dseg probseg aseg wmparc gt
    groundtruth parcellation annotation annotations wmh msk lesion lesions
""")
_IMAGE_WORDS = _words("image images img imgs imaging picture pictures photo photos slice slices scan scans")
_SPLIT_ENDING = re.compile(r"(?<=[a-z])(tr|ts|va)$")
_SPLIT_NAMES = _words("train training validate validation valid val test testing")


def reduce_name(name: str, *, folder: str = "") -> str:
    """Return a file's name without words of modality, processing, session, slice and channel around it; maybe empty.

    Args:
        name: without its extension.
        folder: name of its folder; in nnU-Net's imagesTr, a name ends in the number of the channel.
    """
    if _CHANNEL_FOLDER.fullmatch(folder):
        name = _CHANNEL.sub("", name)
    while (shorter := _BEGINNING.sub("", _MONTH.sub("", _PROCESSED.sub("", _ENDING.sub("", name))))) != name:
        name = shorter
    return name.strip("-_. ")


def strip_visits(name: str) -> str:
    """Return a file's name without sessions, runs, months of follow-up and dates."""
    return _VISIT.sub(" ", _MONTH_INSIDE.sub(" ", name))


def find_modality(name: str) -> str:
    """Return the last modality (T1w, FLAIR, ...) in the name of a file or folder, unchanged; empty if there is none."""
    return next((word for word in reversed(_SEPARATOR.split(name)) if word.lower() in _MODALITIES), "")


def find_channel(name: str, folder: str) -> str:
    """Return the number of the channel in the name of a file in nnU-Net's imagesTr, such as _0001; empty for none."""
    found = _CHANNEL.search(name) if _CHANNEL_FOLDER.fullmatch(folder.rpartition("/")[2]) else None
    return found[0] if found else ""


def strip_slice(name: str) -> str | None:
    """Return a file's name without the slice number at its end; None if it has none."""
    shorter = _SLICE_ENDING.sub("", name)
    return None if shorter == name else shorter.strip("-_. ")


def strip_counter(name: str) -> str | None:
    """Return a file's name without the number at its end, as in anna_12; None if it has none."""
    shorter = _COUNTER.sub("", name)
    return None if shorter == name else shorter


def strip_last_word(name: str) -> tuple[str, str]:
    """Split a name into everything before its last word, and its last word: ("", name) if it has one word."""
    words = _SEPARATOR.split(name)
    return (name[: -len(words[-1])].rstrip("-_. +"), words[-1]) if len(words) > 1 else ("", name)


def is_generic_name(name: str, *, numbers: bool) -> bool:
    """Whether a file's name consists of words for contents and modalities, and of numbers.

    Args:
        numbers: the answer for a name of numbers only, which count slices in a folder of pictures.
    """
    words = [word for word in _SEPARATOR.split(name.lower()) if word]
    kept = [word.strip("0123456789") for word in words if word not in _MODALITIES]
    if words and kept and not any(kept):
        return numbers
    return all(word == "" or word in _CONTENTS for word in kept)


def is_generic_folder(name: str) -> bool:
    """Whether a folder's name is a modality, a session, a date, a content, or a group of people such as site_2."""
    return name.lower() in _CONTENTS | _FOLDERS or bool(_FOLDER.fullmatch(name))


def is_site_folder(name: str) -> bool:
    """Whether a folder's name is that of one of several sites, such as siteA or hospital_2, or parts of a dataset."""
    return bool(_GROUP_FOLDER.fullmatch(name))


def is_cohort_folder(name: str) -> bool:
    """Whether a folder's name is a group of people with the same diagnosis, such as AD or controls."""
    return name.lower() in _COHORTS


def has_mask_word(name: str) -> bool:
    """Return whether the first or last word of a file name, without its number, means a segmentation mask."""
    words = [word.rstrip("0123456789") for word in _SEPARATOR.split(name.lower())]
    words = [word for word in words if word]
    return bool(words) and (words[0] in _MASK_WORDS or words[-1] in _MASK_WORDS)


def folder_role(name: str) -> str | None:
    """Return "mask" for folders such as labelsTr and train_masks, "image" for imagesTr and train_images, else None."""
    words = split_free_words(name)
    for role, known in (("mask", _MASK_WORDS), ("image", _IMAGE_WORDS)):
        if words and all(word in known for word in words):
            return role
    return None


def split_free_words(name: str) -> tuple[str, ...]:
    """Return the words of a folder's name in lower case, without those of splits: ("images",) for imagesTr."""
    words = _SEPARATOR.split(_SPLIT_ENDING.sub("", name.lower()))
    return tuple(word for word in words if word not in _SPLIT_NAMES)
