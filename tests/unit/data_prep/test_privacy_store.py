"""Nothing that says who somebody is gets into a store, whatever the files and their names hold."""

import csv
import io
import json
import stat
import unicodedata
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from data_prep import FileIndex, InProcessExecutor, Prepared, prepare
from data_prep.case import Case, Discovery
from data_prep.privacy import Pseudonyms, privacy_gate
from data_prep.quarantine import BadCase, describe
from data_prep.readers.annotations import read_outlines
from data_prep.readers.arrays import read_npz
from data_prep.readers.base import ReaderError
from data_prep.readers.hdf5 import read_hdf5
from data_prep.readers.nifti import read_nifti
from udt_cluster.config.data import DataConfig
from udt_cluster.data import DataStore
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

PERSON = "Doe_John_19600101"
WORDS = ("Doe", "John", "19600101")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six pairs in the folders of two patients; one picture is cut, and one alone has a small mask."""
    rng = np.random.default_rng(4)
    for kind in ("images", "masks"):
        for person in (PERSON, "ward"):
            (tmp_path / "p" / kind / person).mkdir(parents=True)
            for number in range(3):
                values = rng.integers(0, 255, (40, 40)) if kind == "images" else np.eye(40)
                Image.fromarray(values.astype(np.uint8)).save(tmp_path / "p" / kind / person / f"{number}.png")
    cut = tmp_path / "p/images" / PERSON / "1.png"
    cut.write_bytes(cut.read_bytes()[:200])
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(tmp_path / "p/masks" / PERSON / "2.png")
    return tmp_path / "p"


def run(source: Path, folder: Path, *, pseudonymize: bool, upload: bool = False) -> Prepared:
    config = DataConfig.model_validate(
        {
            "source": str(source),
            "adapter": "image_folder",
            "size": (32, 32),
            "group_by": "case",
            "on_bad_case": "quarantine",
            "pseudonymize": pseudonymize,
        }
    )
    gate = privacy_gate(home=folder / "home", dataset="set", pseudonymize=pseudonymize, upload=upload)
    storage, index = Location.parse(folder / "s"), FileIndex(folder / "files.sqlite")
    return prepare(config, "set", storage, executor=InProcessExecutor(), index=index, rename=gate)


def test_fault_S9_no_table_of_a_store_under_pseudonyms_names_a_person(pictures: Path, tmp_path: Path) -> None:
    store = DataStore.open(run(pictures, tmp_path, pseudonymize=True, upload=True).location)
    names = Pseudonyms.open(tmp_path / "home", "set")
    assert set(store.cases.sites) == {names.of(PERSON), names.of("ward")}, "cases of one site still have one"
    decoded = [*store.cases.ids, *store.cases.groups, *store.cases.sites, json.dumps(store.info.provenance)]
    assert len(store.info.provenance["quarantined"]) == 2
    assert not [text for text in decoded for word in (*WORDS, "ward", ".png", "images/") if word in text]
    with names.table.open() as file:
        assert {row["site"] for row in csv.DictReader(file) if row["site_pseudonym"] == names.of(PERSON)} == {PERSON}


def test_fault_S9_sites_are_looked_at_like_ids_and_groups(tmp_path: Path) -> None:
    case = Case(id="a", group="a", site=PERSON, split="train", images=("a.png",), labels=("b.png",))
    found = Discovery(cases=(case,), patients_known=True, files=())
    for upload in (True, False):
        gate = privacy_gate(home=tmp_path, dataset="set", pseudonymize=False, upload=upload)
        if upload:
            with pytest.raises(DataError, match="sites look as if"):
                gate(found)
        else:
            assert "sites look as if" in gate(found).warnings[0]
    hidden = privacy_gate(home=tmp_path, dataset="set", pseudonymize=True, upload=True)
    bare = Case(id="a", group="a", split="train", images=("a.png",), labels=("b.png",))
    assert hidden(Discovery(cases=(bare,), patients_known=True, files=())).cases[0].site == "", "no site stays none"


def test_fault_S9_a_table_without_sites_still_leads_back(tmp_path: Path) -> None:
    names = Pseudonyms.open(tmp_path, "set")
    names.table.write_text("pseudonym,case,group_pseudonym,group\np0,old,p1,OLD\n")
    case = Case(id="a", group="a", site="x", split="train", images=("a.png",), labels=("b.png",))
    names.apply(Discovery(cases=(case,), patients_known=True, files=()))
    assert names.originals() == {"p0": "old", names.of("a"): "a"}
    assert names.table.read_text().count("pseudonym,case") == 1


def npz(**arrays: npt.NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def hdf5(name: str, values: npt.NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file[name] = values
    return buffer.getvalue()


def outlines(inside: str) -> bytes:
    return f"<Annotations><Regions>{inside}</Regions></Annotations>".encode()


FIELDS = np.zeros(3, dtype=[(PERSON, "<f8")])
SAVED = npz(image=np.zeros(3), **{PERSON: np.zeros(3)})
TOLD = {
    "npz names": (lambda: read_npz(SAVED, "image", "label"), "no array label; the file holds 2"),
    "npz fields": (lambda: read_npz(npz(a=FIELDS), "a"), "a has values of type void"),
    "npz crc": (lambda: read_npz(SAVED.replace(b"NUMPY", b"numpy"), PERSON), r"broken .* \(BadZipFile\)"),
    "hdf5 names": (lambda: read_hdf5(hdf5(PERSON, np.zeros(3)), "label"), "no data set label; the file holds 1"),
    "hdf5 fields": (lambda: read_hdf5(hdf5("a", FIELDS), "a"), "a has values of type void"),
    "xml root": (lambda: read_outlines(f"<{PERSON}/>".encode()), "root is not <Annotations>"),
    "xml type": (lambda: read_outlines(outlines(f'<Region Id="{PERSON}" Type="{PERSON}"/>')), "region 1 of the file"),
    "xml place": (lambda: read_outlines(outlines(f'<Region><Vertex X="{PERSON}"/></Region>')), "a vertex has no X"),
    "xml encoding": (lambda: read_outlines(f"<?xml version='1.0' encoding='{PERSON}'?><a/>".encode()), "broken XML"),
    "nifti": (lambda: read_nifti(b"\x1f\x8b" + PERSON.encode() * 9), r"broken or truncated NIfTI \(BadGzipFile\)"),
}


@pytest.mark.parametrize("kind", TOLD)
def test_fault_S9_no_reader_repeats_text_from_within_a_file(kind: str) -> None:
    read, wanted = TOLD[kind]
    with pytest.raises(ReaderError, match=wanted) as refused:
        read()
    wanted_by_us = kind == "npz crc"
    assert wanted_by_us or not [word for word in WORDS if word in str(refused.value)]
    assert "Bad CRC" not in str(refused.value)


def test_fault_S9_reasons_are_short_and_name_neither_files_nor_their_folders() -> None:
    keys = tuple(f"images/{PERSON}/{number}.dcm" for number in range(3))
    case = Case(id="p01", group="p01", split="train", images=keys, labels=(f"masks/{PERSON}/m.png",))
    text = describe(BadCase(case, (f"{', '.join(keys)}: differ", f"images/{PERSON}: three", "x" * 400)))
    assert text.startswith("image 1, image 2, image 3: differ; its folder: three; xxx")
    assert len(text) == 200
    tail = describe(BadCase(case, ("x" * 190 + f" masks/{PERSON}/m.png",)))
    assert tail == "x" * 190 + " the label", "names go before the text is cut"


def test_fault_S9_a_key_that_others_may_read_is_refused_as_ssh_does(tmp_path: Path) -> None:
    Pseudonyms.open(tmp_path, "set")
    key = tmp_path / "pseudonyms/key"
    for mode in (0o640, 0o604, 0o622):
        key.chmod(mode)
        with pytest.raises(DataError, match=f"chmod 600 {key}"):
            Pseudonyms.open(tmp_path, "set")
    key.chmod(0o400)
    Pseudonyms.open(tmp_path, "set")


def test_fault_S9_the_index_of_files_is_its_owners_alone(pictures: Path, tmp_path: Path) -> None:
    index = FileIndex(tmp_path / "new/files.sqlite")
    source = Location.parse(pictures)
    index.digests(source, source.entries())
    assert stat.S_IMODE(index.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("pseudonymize", [False, True])
def test_fault_D4_names_that_differ_only_by_capitals_or_unicode_form_are_warned_about(
    tmp_path: Path, pseudonymize: bool
) -> None:
    gate = privacy_gate(home=tmp_path, dataset="set", pseudonymize=pseudonymize, upload=False)
    composed, decomposed = (unicodedata.normalize(form, "mül") for form in ("NFC", "NFD"))

    def warnings(*pairs: tuple[str, str]) -> list[str]:
        cases = (Case(id=i, group=g, split="train", images=(i,), labels=(i,)) for i, g in pairs)
        found = gate(Discovery(cases=tuple(cases), patients_known=True, files=()))
        return [warning for warning in found.warnings if "folds leak" in warning]

    assert warnings(("a", "x"), ("b", "X"))[0].startswith("1 times patients (groups) differ only")
    assert warnings(("c7", "x"), ("C7", "x"))[0].startswith("1 times ids of cases differ only")
    assert len(warnings((composed, composed), (decomposed, decomposed))) == 1
    assert warnings(("a", "x"), ("b", "y"), ("c", "x")) == []
    assert any(name in warnings(("i1", "Xaver"), ("i2", "xaver"))[0] for name in ("Xaver", "xaver")) is not pseudonymize


def test_fault_S9_short_names_leave_the_words_of_a_warning_alone(tmp_path: Path) -> None:
    names = Pseudonyms.open(tmp_path, "set")
    case = Case(id="a", group="7", split="train", images=("a.png",), labels=("b.png",))
    warnings = ("half as many files as usual for 7_x, 17 and a.png",)
    hidden = names.apply(Discovery(cases=(case,), patients_known=True, files=(), warnings=warnings))
    assert hidden.warnings == (f"half as many files as usual for {names.of('7')}_x, 17 and {names.of('a')}.png",)
