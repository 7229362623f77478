//! The contrastive method's networks, similarities, loss and optimiser (`tests/golden/make_golden.py`).

use super::{Golden, assert_near, collect_gradients};
use crate::confidence::ConfidenceNetwork;
use crate::contrastive::loss::{Confidence, Crops, contrastive_loss};
use crate::contrastive::patches::Patch;
use crate::contrastive::sampler::Draws;
use crate::contrastive::{ContrastiveConfig, Similarity};
use crate::feature::FeatureNetwork;
use crate::inference::FoldedNetwork;
use crate::initialise::Initialiser;
use crate::operations::known_gradient::with_gradient;
use crate::optimiser::Adam;
use crate::training::Learner;
use crate::weights::{apply, collect, floats};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use microtome_kernels::Size;
use microtome_kernels::network::Planes;

const IMAGES: usize = 2;
const OUTPUTS: usize = 3;
const HEIGHT_PX: usize = 42;
const WIDTH_PX: usize = 46;
const PATCH_PX: usize = 18;

const SIMILARITIES: [(Similarity, &str); 5] = [
    (Similarity::MeanSquaredError, "mean_squared_error"),
    (Similarity::CrossEntropy, "cross_entropy"),
    (Similarity::FeaturisedCosine, "featurised_cosine"),
    (Similarity::MutualInformation, "mutual_information"),
    (Similarity::KullbackLeibler, "kullback_leibler"),
];

fn open() -> Golden {
    Golden::open(include_bytes!("../../tests/golden/contrastive.safetensors"))
}

impl Golden {
    fn learner(&self) -> Learner {
        let mut initialiser = Initialiser::new(0);
        let learner = Learner {
            confidence: ConfidenceNetwork::new(3, OUTPUTS, &mut initialiser),
            feature: Some(FeatureNetwork::new(3, PATCH_PX, &mut initialiser)),
        };
        apply(learner, &self.under("start/")).unwrap()
    }

    fn crops(&self) -> Crops {
        let values = self.get("pictures").values.clone();
        Crops { images: IMAGES, channels: 3, height_px: HEIGHT_PX, width_px: WIDTH_PX, values }
    }

    fn pictures(&self) -> Tensor<4> {
        let data = TensorData::new(self.get("pictures").values.clone(), [IMAGES, 3, HEIGHT_PX, WIDTH_PX]);
        Tensor::from_data(data, &crate::device::training())
    }

    fn draws(&self) -> (Draws, Vec<Vec<usize>>) {
        let patches = |kind: &str, channel: usize| -> Vec<Patch> {
            let patch = |row: &[f32]| Patch {
                image: row[0] as usize,
                top_px: row[1] as usize,
                left_px: row[2] as usize,
            };
            self.get(&format!("draws/{kind}.{channel}")).values.chunks_exact(3).map(patch).collect()
        };
        let all = |kind: &str| (0..OUTPUTS).map(|channel| patches(kind, channel)).collect();
        let anchors = |channel| {
            self.get(&format!("draws/anchors.{channel}")).values.iter().map(|&v| v as usize).collect()
        };
        let draws = Draws { positives: all("positives"), negatives: all("negatives") };
        (draws, (0..OUTPUTS).map(anchors).collect())
    }

    /// The loss, and the gradients of both networks.
    fn gradients(&self, learner: &Learner, similarity: Similarity) -> (f32, Vec<GradientsParams>) {
        let output = learner.confidence.forward_training(self.pictures());
        let config = ContrastiveConfig {
            channels: OUTPUTS,
            patch_px: PATCH_PX,
            similarity,
            ..ContrastiveConfig::paper()
        };
        let (draws, anchors) = self.draws();
        let features = learner.feature.as_ref().filter(|_| similarity == Similarity::FeaturisedCosine);
        let confidence = Confidence { channels: OUTPUTS, values: &floats(output.clone().inner()) };
        let loss = contrastive_loss(confidence, &self.crops(), &draws, &anchors, features, &config);
        let of_confidence = with_gradient(output, loss.value, loss.confidence).backward();
        let of_confidence = GradientsParams::from_grads(of_confidence, &learner.confidence);
        (loss.value, loss.features.into_iter().chain([of_confidence]).collect())
    }
}

#[test]
fn the_networks_have_the_papers_number_of_parameters() {
    let count = |outputs: usize| ConfidenceNetwork::new(3, outputs, &mut Initialiser::new(0)).num_params();
    // Running statistics are counted by the framework too: 13 layers × 2 × 8.
    assert_eq!(count(4) - 13 * 16, 7_372);
    assert_eq!(count(1) - 13 * 16, 7_345);
    let features = |inputs: usize| FeatureNetwork::new(inputs, 50, &mut Initialiser::new(0)).num_params();
    assert_eq!(features(1) - 2 * 17, 3_386);
    assert_eq!(features(3) - 2 * 17, 3_530);
}

#[test]
fn confidence_in_training_mode_equals_pytorch() {
    let golden = open();
    let learner = golden.learner();
    let confidence = learner.confidence.forward_training(golden.pictures());
    assert_near(&floats(confidence), &golden.get("confidence/train").values, 1e-5, "confidence");
}

#[test]
fn confidence_in_evaluation_mode_equals_pytorch_after_one_batch() {
    let golden = open();
    let learner = golden.learner();
    learner.confidence.forward_training(golden.pictures());
    let folded = FoldedNetwork::new(&collect(&learner.confidence), 0.0).unwrap();
    let expected = &golden.get("confidence/eval").values;
    let shape = Planes { images: IMAGES, channels: 3, size: Size::new(WIDTH_PX, HEIGHT_PX) };
    let found = folded.maps_of_planes(&golden.get("pictures").values, shape);
    assert_near(&found, expected, 1e-5, "confidence in evaluation mode");
}

#[test]
fn our_kernels_and_burns_operations_agree() {
    let golden = open();
    let network = golden.learner().confidence;
    let composed = floats(network.composed(golden.pictures()));
    assert_near(&floats(network.logits_training(golden.pictures())), &composed, 1e-5, "logits");
    let statistics = |network: &ConfidenceNetwork| -> Vec<f32> {
        let running = collect(network).into_iter().filter(|tensor| tensor.name.contains("running"));
        running.flat_map(|tensor| tensor.values).collect()
    };
    let (ours, theirs) = (golden.learner().confidence, golden.learner().confidence);
    ours.logits_training(golden.pictures());
    theirs.composed(golden.pictures());
    assert_near(&statistics(&ours), &statistics(&theirs), 1e-5, "running statistics");
}

#[test]
fn each_similarity_equals_pytorch_pair_by_pair() {
    let golden = open();
    let matrix = |name: &str| {
        let tensor = golden.get(name);
        let data = TensorData::new(tensor.values.clone(), [tensor.shape[0], tensor.shape[1]]);
        Tensor::<2>::from_data(data, &crate::device::training())
    };
    for (similarity, name) in SIMILARITIES {
        let found = floats(similarity.matrix(matrix("similarity/a"), matrix("similarity/b")));
        // Mutual information of such wide bins is 1e-4 bits: differences of numbers near 1, hence its tolerance.
        let tolerance = if similarity == Similarity::MutualInformation { 5e-3 } else { 2e-5 };
        assert_near(&found, &golden.get(&format!("similarity/{name}")).values, tolerance, name);
    }
}

#[test]
fn the_loss_with_fixed_draws_equals_pytorch_for_each_similarity() {
    let golden = open();
    for (similarity, name) in SIMILARITIES {
        let (loss, _) = golden.gradients(&golden.learner(), similarity);
        assert_near(&[loss], &golden.get(&format!("loss/{name}")).values, 1e-5, name);
    }
}

#[test]
fn every_gradient_equals_pytorch() {
    let golden = open();
    // 13 fused layers of 3 tensors and the head's 2; the feature network has 12 more.
    for (similarity, name, tensors) in [
        (Similarity::MeanSquaredError, "mean_squared_error", 41),
        (Similarity::FeaturisedCosine, "featurised_cosine", 53),
    ] {
        let learner = golden.learner();
        let (_, found) = golden.gradients(&learner, similarity);
        let expected = golden.under(&format!("gradient/{name}/"));
        let found = collect_gradients(&learner, &found);
        assert_eq!((found.len(), expected.len()), (tensors, tensors), "{name}");
        for tensor in found {
            let expected =
                expected.iter().find(|e| e.name == tensor.name).expect("a golden tensor of this name");
            let expected = &expected.values;
            // A bias before a batch norm has a gradient of zero but for rounding: compared with the scale of the others.
            let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            match largest < 1e-8 {
                true => assert!(
                    tensor.values.iter().all(|v| v.abs() < 1e-5),
                    "{}: {:?}",
                    tensor.name,
                    tensor.values
                ),
                false => assert_near(&tensor.values, expected, 2e-3, &tensor.name),
            }
        }
    }
}

#[test]
fn ten_steps_of_the_optimiser_equal_pytorch() {
    let golden = open();
    let mut optimiser = Adam::default();
    let mut learner = Learner { feature: None, ..golden.learner() };
    let mut losses = Vec::new();
    for _ in 0..10 {
        let (loss, gradients) = golden.gradients(&learner, Similarity::MeanSquaredError);
        losses.push(loss);
        learner = optimiser.step(2e-4, 1e-4, learner, gradients);
    }
    assert_near(&losses, &golden.get("steps/losses").values, 1e-5, "losses");
    let expected = golden.under("steps/");
    for tensor in collect(&learner) {
        let expected = expected.iter().find(|t| t.name == tensor.name).expect("a golden tensor of this name");
        // Adam divides by the gradient's own size, so that rounding in a gradient near zero moves a weight by a part
        // of a step: 10 steps of 2e-4 against weights of about 0.1.
        assert_near(&tensor.values, &expected.values, 2e-3, &tensor.name);
    }
}
