"""Raw arrays in, masks out; folders that are complete or refused."""

import json

import numpy as np
import pytest
import torch

import udt_cluster
from udt_cluster.config.job import ModelConfig
from udt_cluster.data import geometry
from udt_cluster.errors import CorruptError, DataError, UsageError, VersionError
from udt_cluster.evaluation import ModelSpec, SegmentationModel, load_model
from udt_cluster.models import build_model


def images(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("resize", ["stretch", "pad"])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_predict_is_resize_normalise_network_restore(random_model, resize, num_classes):
    model = random_model(channels=3, num_classes=num_classes, resize=resize)
    raw = images((61, 45, 3))
    sample = geometry.resize_image(torch.from_numpy(raw.transpose(2, 0, 1).copy()), (32, 48), resize)
    logits = model.networks[0](sample[None].float() / 255)
    p = logits.sigmoid() if num_classes == 2 else logits.softmax(1)
    native = geometry.restore(p, (61, 45), resize)
    expected = (native[:, 0] > 0.5) if num_classes == 2 else native.argmax(1)
    mask = model.predict(raw)
    assert mask.dtype == np.uint8
    assert 0.05 < (mask > 0).mean() < 0.99
    np.testing.assert_array_equal(mask, expected[0].numpy())


def test_accepts_one_image_with_and_without_channels_and_a_batch(random_model):
    model = random_model()
    batch = images((5, 40, 30, 1))
    masks = model.predict(batch, batch_size=2)
    assert masks.shape == (5, 40, 30)
    np.testing.assert_array_equal(model.predict(batch[1]), masks[1])
    np.testing.assert_array_equal(model.predict(batch[1, ..., 0]), masks[1])


def test_the_number_type_of_the_array_does_not_matter(random_model):
    model = random_model(channels=3)
    raw = images((50, 50, 3))
    expected = model.predict(raw)
    for kind in (np.uint16, np.int64, np.float32, np.float64):
        np.testing.assert_array_equal(model.predict(raw.astype(kind)), expected)
    np.testing.assert_array_equal(model.predict(raw[::1, ::-1][:, ::-1]), expected)
    np.testing.assert_array_equal(model.predict(torch.from_numpy(raw)), expected)


def test_an_array_that_may_not_be_written_is_fine_and_stays_as_it_is(random_model):
    array = images((2, 40, 40, 1)).astype(np.float32)
    array.setflags(write=False)
    assert random_model().predict(array).shape == (2, 40, 40)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_probabilities_sum_to_one_and_their_argmax_is_the_mask(random_model, num_classes):
    model = random_model(num_classes=num_classes, members=2)
    raw = images((3, 37, 70, 1))
    p = model.predict_probabilities(raw, batch_size=2)
    assert p.shape == (3, num_classes, 37, 70)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(p.argmax(1), model.predict(raw))
    np.testing.assert_array_equal(model.predict_probabilities(raw[0]), p[0])


def test_an_ensemble_is_the_mean_of_probabilities(random_model):
    both = random_model(num_classes=4, members=2)
    raw = images((32, 48, 1))
    singles = [SegmentationModel(both.spec, [network]).predict_probabilities(raw) for network in both.networks]
    assert np.abs(singles[0] - singles[1]).max() > 0.1
    np.testing.assert_allclose(both.predict_probabilities(raw), np.mean(singles, 0), atol=1e-6)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((8, 8, 1)), "1 channels on the last axis; the model takes 3"),
        (np.zeros((8, 8)), "the model takes 3"),
        (np.zeros((2, 3, 8, 8)), "8 channels on the last axis"),
        (np.zeros(8), r"shape \(8,\)"),
        (np.zeros((0, 8, 3)), r"shape \(0, 8, 3\)"),
        (np.full((8, 8, 3), np.nan), "NaN or infinite"),
        (np.full((8, 8, 3), 300), r"values from 300 to 300; the model was trained on uint8 \(0\.\.255\)"),
        (np.full((8, 8, 3), -1.0), "values from -1"),
        (np.full((8, 8, 3), 0.5), "multiply by 255"),
        (np.full((8, 8, 3), "a"), "integers and floats are allowed"),
        (np.full((8, 8, 3), True), "image is bool"),
    ],
)
def test_what_cannot_be_predicted_is_refused_with_the_remedy(random_model, array, message):
    with pytest.raises(DataError, match=message):
        random_model(channels=3).predict(array)


def test_a_grey_model_tells_how_to_pass_a_volume(random_model):
    with pytest.raises(DataError, match=r"volume\[\.\.\., None\]"):
        random_model(channels=1).predict(np.zeros((10, 40, 30)))


def test_black_images_and_float_images_of_float_models_are_fine(random_model):
    assert random_model().predict(np.zeros((8, 8))).shape == (8, 8)
    assert random_model(dtype="float32").predict(np.random.default_rng(0).random((8, 8))).shape == (8, 8)


def unet_spec(channels=1, num_classes=2):
    from udt_cluster.data import Normalization

    return ModelSpec(
        model=ModelConfig(architecture="unet"),
        in_channels=channels,
        class_names=("background", "gland", "other")[:num_classes],
        size=(32, 32),
        resize="pad",
        dtype="int16",
        normalization=Normalization(
            kind="zscore", low=(-3e38,), high=(3e38,), shift=(12.345678901234567,), scale=(0.1,)
        ),
        lineage={"job": "j", "fold": 2},
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A real UNet in a folder, and the model that was written."""
    torch.manual_seed(1)
    model = SegmentationModel(
        unet_spec(), [build_model(ModelConfig(architecture="unet"), in_channels=1, num_classes=1)]
    )
    folder = tmp_path_factory.mktemp("models") / "unet"
    model.save_folder(folder)
    return folder, model


def test_a_saved_folder_predicts_the_same(saved):
    folder, model = saved
    raw = np.random.default_rng(0).integers(-1000, 3000, (40, 60), dtype=np.int16)
    again = SegmentationModel.from_folder(folder)
    assert again.spec == model.spec
    np.testing.assert_array_equal(again.predict_probabilities(raw), model.predict_probabilities(raw))
    assert sorted(path.name for path in folder.iterdir()) == ["model_0.safetensors", "spec.json"]
    assert not list(folder.parent.glob(".*"))


def test_load_model_takes_a_path_a_file_uri_and_the_folder_of_a_registered_model(saved, tmp_path):
    folder, model = saved
    (tmp_path / "udt").symlink_to(folder)
    for uri in (folder, str(folder), folder.as_uri(), tmp_path):
        assert udt_cluster.load_model(uri, device="cpu").spec == model.spec


def test_load_model_asks_the_registry_for_names(saved, monkeypatch):
    import udt_cluster.tracking

    asked = []

    def download(reference, folder):
        asked.append(reference)
        return saved[0]

    monkeypatch.setattr(udt_cluster.tracking, "download", download, raising=False)
    references = ["glas-unet@candidate", "glas-unet/3", "models:/glas-unet@champion", "models:/glas-unet/12"]
    for reference in references:
        assert load_model(reference, device="cpu").spec == saved[1].spec
    assert asked == references


@pytest.mark.parametrize("uri", ["nowhere", "models:/a/b/c", "name@", "/nowhere/at/all", "runs:/abc/model"])
def test_load_model_names_the_forms_it_knows(uri):
    with pytest.raises(UsageError, match=r"no such folder\. Allowed: \"name@alias\""):
        load_model(uri)


def test_load_model_of_an_empty_location(tmp_path):
    with pytest.raises(UsageError, match="nothing is there"):
        load_model((tmp_path / "absent").as_uri())
    with pytest.raises(UsageError, match=r"no spec\.json"):
        load_model(tmp_path)


def copied(saved, tmp_path, **changes):
    """The folder again, with other values in spec.json."""
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / "model_0.safetensors").hardlink_to(saved[0] / "model_0.safetensors")
    values = json.loads((saved[0] / "spec.json").read_text()) | changes
    (folder / "spec.json").write_text(json.dumps({name: value for name, value in values.items() if value is not None}))
    return folder


@pytest.mark.parametrize("version", [3, 0, "1", None])
def test_another_version_of_the_format_is_refused(saved, tmp_path, version):
    with pytest.raises(VersionError, match="reads 1 and 2"):
        load_model(copied(saved, tmp_path, schema_version=version))


def test_a_folder_of_version_1_has_no_neighbouring_slices(saved, tmp_path):
    written = json.loads((saved[0] / "spec.json").read_text())
    assert written["context_slices"] == written["normalization"].pop("context_slices") == 0
    older = {"schema_version": 1, "context_slices": None, "normalization": written["normalization"]}
    assert load_model(copied(saved, tmp_path, **older)).spec == load_model(saved[0]).spec


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": None}, "KeyError: 'size'"),
        ({"dtype": "uint7"}, "uint7"),
        ({"model": {"architecture": "unet", "depth": 9}}, "depth"),
        ({"normalization": {"kind": "zscore"}}, "missing"),
        ({"members": []}, "lists no members"),
        ({"members": [{"file": "../model_0.safetensors"}]}, "a plain file name is allowed"),
        ({"members": [{"file": "model_1.safetensors"}]}, r"model_1\.safetensors is missing"),
        ({"members": [{"file": "model_0.safetensors", "size": 3, "sha256": ""}]}, "is not the file"),
        ({"in_channels": 3}, "the weights do not fit a unet"),
    ],
)
def test_a_broken_folder_is_refused(saved, tmp_path, changes, message):
    with pytest.raises(CorruptError, match=message):
        load_model(copied(saved, tmp_path, **changes))


def test_a_changed_byte_is_found(saved, tmp_path):
    folder = copied(saved, tmp_path)
    weights = folder / "model_0.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.unlink()
    weights.write_bytes(content)
    with pytest.raises(CorruptError, match="copy the whole folder again"):
        load_model(folder)


def test_spec_json_that_is_no_object_is_refused(tmp_path):
    for text in ("{", "[]"):
        (tmp_path / "spec.json").write_text(text)
        with pytest.raises(CorruptError):
            load_model(tmp_path)


def test_several_folders_make_one_ensemble(saved, tmp_path, random_model):
    folder, model = saved
    ensemble = SegmentationModel.from_folders([folder, folder])
    assert len(ensemble.networks) == 2
    assert ensemble.spec.lineage == {"members": [{"job": "j", "fold": 2}] * 2}
    assert SegmentationModel.from_folders([folder]).spec == model.spec
    ensemble.save_folder(tmp_path / "ensemble")
    assert len(load_model(tmp_path / "ensemble").networks) == 2
    with pytest.raises(DataError, match="in more than weights"):
        SegmentationModel.from_folders([folder, copied(saved, tmp_path, resize="stretch")])


def test_weights_of_a_checkpoint_make_a_model(saved):
    folder, model = saved
    again = SegmentationModel.from_weights(model.spec, [folder / "model_0.safetensors"])
    raw = np.zeros((20, 20), np.int16)
    np.testing.assert_array_equal(again.predict(raw), model.predict(raw))
    with pytest.raises(CorruptError, match="cannot be read as safetensors"):
        SegmentationModel.from_weights(model.spec, [folder / "spec.json"])


def test_a_model_is_written_once_and_completely_or_not_at_all(saved, tmp_path):
    with pytest.raises(UsageError, match="not an empty folder"):
        saved[1].save_folder(saved[0])
    broken = SegmentationModel(saved[1].spec, saved[1].networks)
    object.__setattr__(broken.spec, "lineage", {"when": object()})
    with pytest.raises(TypeError):
        broken.save_folder(tmp_path / "new")
    object.__setattr__(broken.spec, "lineage", {"job": "j", "fold": 2})
    assert list(tmp_path.iterdir()) == []


def test_no_folder_has_a_pickle(saved):
    assert (saved[0] / "model_0.safetensors").read_bytes()[8:9] == b"{"
    with pytest.raises(UsageError, match="at least one member"):
        SegmentationModel(saved[1].spec, [])
