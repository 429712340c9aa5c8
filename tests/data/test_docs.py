"""docs/data.md: a row for each form of data. The test writes the page where it is out of date, and fails."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "data.md"
START, END = "<!-- forms -->\n", "\n<!-- end of forms -->"

# form; what is read; what is refused in one line; the test, as file:name, of each.
FORMS = [
    (
        "`PATH/<class>/<picture>`",
        "classes by the names of the folders; if one folder lies around them, alikit goes into it and says so; a tenth "
        "is held out by name",
        "an empty class; pictures of mixed sizes without `--size`",
        "data/test_folders.py:test_class_folders_and_what_is_passed_over",
    ),
    (
        "`PATH/train/`, `PATH/test/`",
        "splits in all usual spellings (Training, val2017, 1-test ...); beside a test folder without labels a tenth of "
        "the training part is held out",
        "what may be splits or classes: say `--splits TRAIN,HELD_OUT` or `--splits none`",
        "data/test_folders.py:test_what_lies_there_tells_classes_from_splits",
    ),
    (
        "pictures of any ending",
        "what Pillow opens, by content; further pages and frames are counted and said",
        "unreadable files, counted by ending, unless `--skip-corrupt`",
        "data/test_folders.py:test_kinds_that_cannot_be_read_are_counted_by_their_endings",
    ),
    (
        "16- and 32-bit greys",
        "where the brightest value of all is exactly 255, 1023, 4095, 16383 or 65535; or `--white N`",
        "another brightest value, with what was seen",
        "data/test_depths.py:test_a_range_that_is_not_known_is_asked_for",
    ),
    (
        "grey pictures",
        "one channel, until a colour picture comes",
        "",
        "data/test_depths.py:test_grey_stays_grey_until_a_colour_comes",
    ),
    (
        "`table:PATH`: labels.csv, metadata.csv or .jsonl, train.csv, attributes.csv",
        "classes as text or numbers; attributes 0/1, -1/1, true/false; splits in a column, another table or folders",
        "a wrong line, by its number; a picture without a line; a column in which all values differ",
        "data/test_tables.py:test_values_are_classes_or_attributes",
    ),
    (
        "CelebA as Kaggle packs it",
        "list_attr_celeba.csv, list_eval_partition.csv, the nested folder",
        "",
        "data/test_tables.py:test_celeba_as_kaggle_has_it",
    ),
    (
        "`torchvision:NAME`",
        "every set of labelled pictures that needs no further package; letters of EMNIST upright and named",
        "a set that is not there, unless `--download`; files that could run code",
        "data/test_torchvision_sets.py:test_sets_in_memory",
    ),
    (
        "a `Dataset` of torch or torchvision, or a pair of them",
        "pictures of Pillow, arrays or tensors, with a label or without",
        "examples of mixed sizes, labels that are missing in part",
        "data/test_objects.py:test_objects",
    ),
    (
        "arrays, tensors, lists",
        "(N, H, W), (N, H, W, C), (N, C, H, W) and points (N, D), of any integer or float type; ranges in common use",
        "an unclear range (`scale=`), unclear channels (`channels=`), NaN by its place",
        "data/test_arrays.py:test_what_may_be_two_things_or_none_is_refused",
    ),
    (
        "labels",
        "numbers from 0 or 1, names, one-hot; (N,) or (N, 1); attributes (N, A)",
        "labels below 0, another number of them, values that are neither",
        "data/test_arrays.py:test_labels_that_are_neither_classes_nor_attributes_are_refused",
    ),
    (
        ".npy, .npz, HDF5",
        "MedMNIST's keys, Keras' keys, x and y, images and labels, data and targets; one array alone",
        "other keys, which are listed; pickles",
        "data/test_files.py:test_arrays_by_their_names",
    ),
    (
        "MNIST's IDX files, packed or not",
        "a folder, also `MNIST/raw`; EMNIST's turned upright; QMNIST's",
        "a file without its labels",
        "data/test_files.py:test_mnist_files",
    ),
    (
        "MATLAB's .mat, pixels in a table, CIFAR's binary form, other files",
        "the lines above turn them into arrays",
        "named, with what to do; also one of MATLAB that is called .h5, whose pictures would lie on their side",
        "data/test_layouts.py:test_matlabs_files_are_refused_with_a_way_that_works",
    ),
    (
        "the folder of a published set, as `tiny-imagenet-200/`",
        "as its name does, here `tiny-imagenet`; also `celeba/`, `cifar-10-batches-py/`, `stl10_binary/` ...",
        "a folder with several: say which",
        "data/test_layouts.py:test_a_published_set_is_known_by_its_own_folder_too",
    ),
    (
        "folders that may be no classes",
        "FFHQ's 00000/, 01000/ ... are none; of images/, annotations/, color/apple/ and of label files beside them it "
        "says so",
        "",
        "data/test_layouts.py:test_folders_that_are_no_classes",
    ),
    (
        "WebDataset, .tar",
        "pictures with .cls or .json; shards of train and test by name",
        "damaged shards; nothing but local files is opened",
        "data/test_files.py:test_webdataset_shards",
    ),
    (
        "parquet of Hugging Face's `datasets`",
        "image bytes, labels and the names of classes",
        "several columns of pictures; without a column called label it says so",
        "data/test_files.py:test_parquet_of_datasets",
    ),
    (
        "what a model is given",
        "floats of the model's own shape, in [0, 1]",
        "another shape or range",
        "test_models.py:test_examples_and_codes_of_another_shape_or_range_are_refused",
    ),
    (
        "data of a run that is resumed",
        "the same pictures, labels, names of classes and known factors",
        "those that have changed",
        "test_runs.py:test_other_labels_classes_or_factors_are_noticed",
    ),
]


def test_the_page_has_a_row_for_each_form_and_each_row_its_test():
    lines = ["| form | what is read | what is refused | test of it |", "| --- | --- | --- | --- |"]
    for form, read, refused, test in FORMS:
        file, _, name = test.partition(":")
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file} has no {name}"
        lines.append(f"| {form} | {read} | {refused} | `{name}` |")
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    wanted = f"{before}{START}\n" + "\n".join(lines) + f"\n{END}{after}"
    if page != wanted:
        PAGE.write_text(wanted, encoding="utf-8")
    assert page == wanted, "docs/data.md was out of date and is written anew: commit it"


def test_each_form_in_its_real_layout_is_trained_on_and_sampled():
    tried = subprocess.run(
        [sys.executable, ROOT / "tools" / "try_data.py"], capture_output=True, text=True, timeout=300
    )
    assert tried.returncode == 0, tried.stderr
    lines = tried.stdout.splitlines()
    assert len(lines) == 13 and all(line.endswith("28, 28)") and ", samples (4, " in line for line in lines)
