//! Metrics against numbers that `make_golden.py`, which lies beside this file, computed by naive loops in
//! Python; and the way from files on disk to an evaluation.

use std::path::Path;

use microtome::metrics::{Evaluation, Overlaps, aji, detection, dice, evaluate, json, panoptic};
use microtome::truth;
use microtome_kernels::{Labels, Size};
use microtome_vault::disk;

const SIZE: Size = Size::new(64, 48);

/// Seed and shift of a label map.
type Map = (u64, usize);

/// Truth, prediction, [dice, iou, aji, pq, dq, sq, f1, precision, recall], (true, predicted nuclei).
type Case = (Map, Map, [f64; 9], (usize, usize));

#[rustfmt::skip]
const CASES: [Case; 6] = [
    ((1, 0), (1, 0), [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], (33, 33)),
    ((1, 0), (1, 1), [0.8303571428571429, 0.7099236641221374, 0.7099236641221374, 0.6599465502842049, 0.9411764705882353, 0.7011932096769677, 0.9411764705882353, 0.9142857142857143, 0.9696969696969697], (33, 35)),
    ((1, 0), (1, 2), [0.699382292381606, 0.5377308707124011, 0.5098445595854922, 0.2703433841712667, 0.4788732394366197, 0.5645405963576452, 0.4788732394366197, 0.4473684210526316, 0.5151515151515151], (33, 38)),
    ((2, 0), (3, 1), [0.7622504537205081, 0.6158357771260997, 0.6158357771260997, 0.5693159570768679, 0.8235294117647058, 0.6913122335933396, 0.8235294117647058, 0.8235294117647058, 0.8235294117647058], (34, 34)),
    ((4, 3), (4, 0), [0.5399361022364217, 0.36980306345733044, 0.2976190476190476, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], (36, 33)),
    ((5, 0), (6, 4), [0.419639110365086, 0.2655337227827934, 0.17326502095947835, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], (32, 36)),
];

fn hashed(cell: u64, seed: u64) -> u64 {
    (((cell + 1) * 2_654_435_761 + seed * 40_503) % (1 << 32)) >> 16
}

/// The `label_map` of `make_golden.py`.
fn label_map((seed, shift): Map) -> Labels {
    let mut labels = Labels::background(SIZE);
    for (index, id) in labels.ids.iter_mut().enumerate() {
        let (x, y) = (index % SIZE.width_px + shift, index / SIZE.width_px);
        let cell = (x / 9 + 31 * (y / 8)) as u64;
        let hash = hashed(cell, seed);
        let distance_squared = (x % 9).abs_diff(4).pow(2) + (y % 8).abs_diff(4).pow(2);
        if distance_squared as u64 <= 4 + hash % 16 && !(hash / 16).is_multiple_of(5) {
            let owner = if (hash / 128).is_multiple_of(4) && x / 9 > 0 { cell - 1 } else { cell };
            *id = 1 + (owner * 7 % 1009) as u32;
        }
    }
    labels
}

fn scores(overlaps: &Overlaps) -> [f64; 9] {
    let quality = panoptic::panoptic_quality(overlaps);
    let found = [detection::f1(overlaps), detection::precision(overlaps), detection::recall(overlaps)];
    let [f1, precision, recall] = found;
    let (dice, iou, aji) = (dice::dice(overlaps), dice::iou(overlaps), aji::aji(overlaps));
    [dice, iou, aji, quality.pq, quality.dq, quality.sq, f1, precision, recall]
}

fn assert_close(computed: &[f64], golden: &[f64], tolerance: f64) {
    for (ours, theirs) in computed.iter().zip(golden) {
        assert!((ours - theirs).abs() <= tolerance, "{computed:?} is not {golden:?}");
    }
}

#[test]
fn metrics_equal_the_naive_computation() {
    for (truth, predicted, golden, (true_nuclei, predicted_nuclei)) in CASES {
        let overlaps = Overlaps::between(&label_map(predicted), &label_map(truth)).unwrap();
        assert_close(&scores(&overlaps), &golden, 1e-12);
        assert_eq!((overlaps.truth.len(), overlaps.predicted.len()), (true_nuclei, predicted_nuclei));
    }
}

#[test]
fn ids_are_only_names() {
    let (truth, mut predicted) = (label_map((2, 0)), label_map((3, 1)));
    let before = scores(&Overlaps::between(&predicted, &truth).unwrap());
    predicted.renumber();
    assert_close(&scores(&Overlaps::between(&predicted, &truth).unwrap()), &before, 1e-15);
}

fn write_png(path: &Path, labels: &Labels) {
    let mut bytes = Vec::new();
    let mut encoder =
        png::Encoder::new(&mut bytes, labels.size.width_px as u32, labels.size.height_px as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Sixteen);
    let data: Vec<u8> = labels.ids.iter().flat_map(|&id| (id as u16).to_be_bytes()).collect();
    encoder.write_header().unwrap().write_image_data(&data).unwrap();
    disk::create_folder_all(path.parent().unwrap()).unwrap();
    disk::write_atomic(path, &bytes).unwrap();
}

/// Evaluates all cases from files: a run's folder against the layout of TNBC.
fn evaluate_files() -> Evaluation {
    let folder = tempfile::tempdir().unwrap();
    for (index, &(truth, predicted, ..)) in CASES.iter().enumerate() {
        let name = format!("{:02}_{index}.png", index % 2);
        write_png(&folder.path().join("run/labels").join(&name), &label_map(predicted));
        write_png(
            &folder.path().join("tnbc").join(format!("GT_{:02}", index % 2)).join(&name),
            &label_map(truth),
        );
    }
    evaluate(&truth::pair(&folder.path().join("run"), &folder.path().join("tnbc")).unwrap()).unwrap()
}

#[test]
fn files_give_the_same_means_as_the_naive_computation() {
    let evaluation = evaluate_files();
    let intervals = [evaluation.dice, evaluation.iou, evaluation.aji, evaluation.pq];
    let names: Vec<&str> = evaluation.pictures.iter().map(|scores| scores.name.as_str()).collect();
    assert_eq!(names, ["00_0", "00_2", "00_4", "01_1", "01_3", "01_5"]);
    let means = [0.7085941835934607, 0.5831378497001269, 0.5510813449020425, 0.41660098192205663];
    assert_close(&intervals.map(|interval| interval.mean), &means, 1e-12);
    // numpy's percentiles of 400,000 resamples; 10,000 are a little off. (Precision and recall of six
    // pictures take few values, whose percentiles jump.)
    assert_close(&intervals.map(|interval| interval.low), &[0.5565, 0.4023, 0.3415, 0.1399], 0.015);
    assert_close(&intervals.map(|interval| interval.high), &[0.8554, 0.7809, 0.7706, 0.7049], 0.015);
    assert!(evaluation.notes.is_empty(), "{:?}", evaluation.notes);
}

#[test]
fn the_same_bytes_on_any_number_of_threads() {
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        json::to_json(&pool.install(evaluate_files), None).unwrap()
    };
    assert_eq!(on(1), on(5));
}

#[test]
fn a_mask_against_instances_is_noted_and_scored_by_its_parts() {
    let folder = tempfile::tempdir().unwrap();
    let truth = label_map((2, 0));
    let mask = Labels { size: SIZE, ids: truth.ids.iter().map(|&id| u32::from(id > 0) * 255).collect() };
    write_png(&folder.path().join("p/a.png"), &mask);
    write_png(&folder.path().join("t/a.png"), &truth);
    let evaluation =
        evaluate(&truth::pair(&folder.path().join("p"), &folder.path().join("t")).unwrap()).unwrap();
    assert_eq!((evaluation.dice.mean, evaluation.notes.len()), (1.0, 1));
    assert!(
        evaluation.notes[0].starts_with("the prediction of 1 of 1 pictures is a mask"),
        "{:?}",
        evaluation.notes
    );
    assert!(evaluation.pictures[0].predicted_nuclei > 1);
}

#[test]
fn the_first_unreadable_file_in_order_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        write_png(&folder.path().join("p").join(format!("{name}.png")), &label_map((1, 0)));
        let bytes: &[u8] = b"not a label map";
        disk::create_folder_all(folder.path().join("t")).unwrap();
        disk::write_atomic(folder.path().join("t").join(format!("{name}.png")), bytes).unwrap();
    }
    let pairs = truth::pair(&folder.path().join("p"), &folder.path().join("t")).unwrap();
    let error = evaluate(&pairs).unwrap_err();
    assert!(error.path().is_some_and(|path| path.ends_with("t/a.png")), "{error}");
}
