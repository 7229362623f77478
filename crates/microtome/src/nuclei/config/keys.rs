//! One line of explanation for each key of the config: help texts, flags and the documentation are made of these.

/// A key of the config.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// `section.name`, as in the TOML file.
    pub path: &'static str,
    /// What it means, with its unit.
    pub meaning: &'static str,
}

const fn key(path: &'static str, meaning: &'static str) -> Key {
    Key { path, meaning }
}

/// All keys, in the order of the file.
pub const KEYS: &[Key] = &[
    key("method", "How nuclei are found: best, contrastive or stain"),
    key("contrastive.channels", "Output channels K, one of which becomes nuclei"),
    key("contrastive.crop_px", "Side of the random crops, in pixels"),
    key("contrastive.batch", "Pictures in a batch"),
    key("contrastive.epochs", "Passes over the pictures"),
    key("contrastive.patch_px", "Side of a patch, in pixels"),
    key("contrastive.stride_px", "Distance between patches, in pixels"),
    key("contrastive.draws", "Patches drawn for each picture and channel"),
    key("contrastive.anchors", "Anchors drawn for each channel"),
    key("contrastive.sampler", "entropy, uniform, probabilistic, probabilistic-sentinel or top-k"),
    key("contrastive.sampler_alpha", "Exponent of the probabilistic samplers"),
    key("contrastive.sampler_k", "Patches at the top, for top-k"),
    key(
        "contrastive.similarity",
        "mse, cross-entropy, featurised-cosine, mutual-information or kullback-leibler",
    ),
    key("contrastive.inter_weight", "Weight of the loss between channels"),
    key("contrastive.learning_rate", "Adam's step"),
    key("contrastive.weight_decay", "L2 penalty, added to the gradient"),
    key("contrastive.epsilon", "ε of x' = (1−ε)·x + ε on the input"),
    key("stain.vectors", "auto, macenko (estimated from each picture) or ruifrok-johnston (published)"),
    key("stain.smoothing_px", "Standard deviation of the Gaussian on haematoxylin, in pixels"),
    key("best.rounds", "How often a network is taught by what was found before"),
    key("best.steps", "Training steps a round"),
    key(
        "best.network_mpp",
        "How finely the network sees, in µm per pixel: finer pictures are shrunk for it; 0 for none",
    ),
    key("best.crop_px", "Side of the random crops, in pixels of the network; smaller where pictures are"),
    key("best.batch", "Crops in a batch"),
    key("best.learning_rate", "Adam's highest step; it rises, then falls along a cosine"),
    key("best.weight_decay", "L2 penalty, added to the gradient"),
    key("instances.threshold", "A pixel belongs to a nucleus where the confidence is above this"),
    key("instances.cleaning", "standard, paper (opening and closing with disks of 3 and 1 px) or none"),
    key("instances.separation", "distance (watershed of the distance to the background) or components"),
    key("instances.min_area_um2", "Smallest nucleus, in µm²"),
    key("instances.max_hole_um2", "Largest hole that is filled, in µm²; inf fills all"),
    key("instances.marker_depth_um", "How deep the saddle between two nuclei must be, in µm"),
    key("instances.marker_smoothing_um", "Smoothing of the distance map before centres are sought, in µm"),
];
