//! Every value of the nuclei methods, as it is written in a TOML file: the on-disk types, their defaults, and one line
//! of explanation for each key, from which the command line makes its flags.

mod keys;

pub use keys::{KEYS, Key};

use super::best::{BestConfig, TARGETS};
use super::instances::{Cleaning, InstancesConfig, Separation};
use super::stain::{StainConfig, StainVectors};
use microtome_nets::contrastive::{ContrastiveConfig, Sampler, Similarity};
use microtome_nets::soft_target::SoftTargetConfig;
use microtome_vault::{Error, Result};
use serde::{Deserialize, Serialize};

/// How nuclei are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The stain teaches a network that corrects it.
    Best,
    /// The paper's: patch-based contrastive learning.
    Contrastive,
    /// Classical: colour deconvolution, Otsu, watershed.
    Stain,
}

impl Method {
    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Contrastive => "contrastive",
            Self::Stain => "stain",
        }
    }
}

/// A config file, complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// How nuclei are found.
    pub method: Method,
    /// The paper's method.
    pub contrastive: ContrastiveSection,
    /// The classical method.
    pub stain: StainSection,
    /// The default method.
    pub best: BestSection,
    /// From confidence to nuclei.
    pub instances: InstancesSection,
}

/// Table `[contrastive]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContrastiveSection {
    channels: usize,
    crop_px: usize,
    batch: usize,
    epochs: usize,
    patch_px: usize,
    stride_px: usize,
    draws: usize,
    anchors: usize,
    sampler: SamplerName,
    sampler_alpha: f32,
    sampler_k: usize,
    similarity: SimilarityName,
    inter_weight: f32,
    learning_rate: f64,
    weight_decay: f32,
    epsilon: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SamplerName {
    Entropy,
    Uniform,
    Probabilistic,
    ProbabilisticSentinel,
    TopK,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SimilarityName {
    Mse,
    CrossEntropy,
    FeaturisedCosine,
    MutualInformation,
    KullbackLeibler,
}

/// Table `[stain]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StainSection {
    vectors: VectorsName,
    smoothing_px: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum VectorsName {
    Auto,
    RuifrokJohnston,
    Macenko,
}

/// Table `[best]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestSection {
    rounds: usize,
    steps: usize,
    /// Models of before this key saw each pixel of their pictures.
    #[serde(default)]
    network_mpp: f64,
    crop_px: usize,
    batch: usize,
    learning_rate: f64,
    weight_decay: f32,
}

/// Table `[instances]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstancesSection {
    threshold: f32,
    cleaning: CleaningName,
    separation: SeparationName,
    min_area_um2: f64,
    max_hole_um2: f64,
    marker_depth_um: f64,
    marker_smoothing_um: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CleaningName {
    Standard,
    Paper,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SeparationName {
    Distance,
    Components,
}

impl Default for ConfigFile {
    fn default() -> Self {
        let paper = ContrastiveConfig::paper();
        Self {
            method: Method::Best,
            contrastive: ContrastiveSection {
                channels: paper.channels,
                crop_px: paper.crop_px,
                batch: paper.batch,
                epochs: paper.epochs,
                patch_px: paper.patch_px,
                stride_px: paper.stride_px,
                draws: paper.draws,
                anchors: paper.anchors,
                sampler: SamplerName::Entropy,
                sampler_alpha: 1.0,
                sampler_k: 50,
                similarity: SimilarityName::Mse,
                inter_weight: paper.inter_weight,
                learning_rate: paper.learning_rate,
                weight_decay: paper.weight_decay,
                epsilon: paper.epsilon,
            },
            stain: StainSection { vectors: VectorsName::Auto, smoothing_px: 1.5 },
            best: BestSection {
                rounds: 1,
                steps: 160,
                network_mpp: 0.5,
                crop_px: 128,
                batch: 8,
                learning_rate: 1e-2,
                weight_decay: 1e-5,
            },
            instances: InstancesSection {
                threshold: 0.5,
                cleaning: CleaningName::Standard,
                separation: SeparationName::Distance,
                min_area_um2: 6.0,
                max_hole_um2: 15.0,
                marker_depth_um: 0.15,
                marker_smoothing_um: 0.5,
            },
        }
    }
}

impl ConfigFile {
    /// The defaults, changed by `text` (TOML; keys may be left out), then by `overrides` (`contrastive.crop_px` and a
    /// TOML value; bare words are taken for strings).
    ///
    /// # Errors
    /// `Usage` for a text that is not TOML, an unknown key, or a value out of range.
    pub fn read(text: &str, overrides: &[(String, String)]) -> Result<Self> {
        let given: toml::Table = toml::from_str(text).map_err(|error| not_toml(text, &error))?;
        let mut table = toml::Table::try_from(Self::default())
            .map_err(|error| Error::bug(format!("the default config is not writable ({error})")))?;
        merge(&mut table, given, "")?;
        for (path, value) in overrides {
            merge(&mut table, nested(path, value), "")?;
        }
        let config: Self = table.try_into().map_err(|error: toml::de::Error| {
            // Its text names the key, in a line of its own.
            let why = error.to_string().trim().replace('\n', ", ");
            Error::usage(format!("a value of the config does not fit: {why}"))
        })?;
        config.check()?;
        Ok(config)
    }

    /// The config as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// The defaults as TOML, each key with its explanation.
    pub fn commented() -> String {
        let plain = Self::default().to_toml();
        let mut section = String::new();
        let mut lines = Vec::new();
        for line in plain.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = format!("{name}.");
            }
            let path = line.split_once(" = ").map(|(key, _)| format!("{section}{key}"));
            let key = path.and_then(|path| KEYS.iter().find(|key| key.path == path));
            lines.extend(key.map(|key| format!("# {}", key.meaning)));
            lines.push(line.to_owned());
        }
        lines.join("\n") + "\n"
    }

    /// Whether all values can be worked with.
    ///
    /// # Errors
    /// `Usage` for the first that cannot.
    pub fn check(&self) -> Result<()> {
        let (c, b, i) = (&self.contrastive, &self.best, &self.instances);
        let positive = [
            ("contrastive.channels", c.channels),
            ("contrastive.batch", c.batch),
            ("contrastive.epochs", c.epochs),
            ("contrastive.stride_px", c.stride_px),
            ("contrastive.draws", c.draws),
            ("contrastive.anchors", c.anchors),
            ("best.rounds", b.rounds),
            ("best.steps", b.steps),
            ("best.batch", b.batch),
        ];
        for (key, value) in positive {
            require(value > 0, key, "must be at least 1")?;
        }
        require(c.channels <= 64, "contrastive.channels", "must be at most 64")?;
        require(c.batch.max(b.batch) <= 1024, "batch", "must be at most 1024")?;
        require(c.crop_px.max(b.crop_px) <= 4096, "crop_px", "must be at most 4096")?;
        require(b.crop_px >= 16, "best.crop_px", "must be at least 16")?;
        require(
            b.network_mpp <= 4.0,
            "best.network_mpp",
            "must be at most 4: coarser, nuclei are single points",
        )?;
        require(c.patch_px >= 18, "contrastive.patch_px", "must be at least 18")?;
        // The last row of a grid that fits exactly is dropped, so that a crop needs one pixel more than a patch.
        require(c.crop_px > c.patch_px, "contrastive.crop_px", "must be larger than contrastive.patch_px")?;
        require((0.0..1.0).contains(&c.epsilon), "contrastive.epsilon", "must be at least 0 and below 1")?;
        require((0.0..=1.0).contains(&i.threshold), "instances.threshold", "must lie between 0 and 1")?;
        let not_larger = [
            ("contrastive.epochs", c.epochs, 1_000_000),
            ("contrastive.draws", c.draws, 100_000),
            ("contrastive.anchors", c.anchors, 100_000),
            ("best.rounds", b.rounds, 100),
            ("best.steps", b.steps, 10_000_000),
        ];
        for (key, value, most) in not_larger {
            require(value <= most, key, &format!("must be at most {most}"))?;
        }
        require(i.max_hole_um2 >= 0.0, "instances.max_hole_um2", "must not be negative")?;
        let not_negative = [
            ("contrastive.learning_rate", c.learning_rate),
            ("contrastive.weight_decay", c.weight_decay.into()),
            ("contrastive.inter_weight", c.inter_weight.into()),
            ("contrastive.sampler_alpha", c.sampler_alpha.into()),
            ("best.network_mpp", b.network_mpp),
            ("best.learning_rate", b.learning_rate),
            ("best.weight_decay", b.weight_decay.into()),
            ("stain.smoothing_px", self.stain.smoothing_px.into()),
            ("instances.min_area_um2", i.min_area_um2),
            ("instances.marker_depth_um", i.marker_depth_um),
            ("instances.marker_smoothing_um", i.marker_smoothing_um),
        ];
        not_negative.iter().try_for_each(|(key, value)| {
            require(value.is_finite() && *value >= 0.0, key, "must be a number, and not negative")
        })
    }

    /// Values of the paper's method.
    pub fn contrastive(&self) -> ContrastiveConfig {
        let section = &self.contrastive;
        ContrastiveConfig {
            channels: section.channels,
            crop_px: section.crop_px,
            batch: section.batch,
            epochs: section.epochs,
            patch_px: section.patch_px,
            stride_px: section.stride_px,
            draws: section.draws,
            anchors: section.anchors,
            sampler: match section.sampler {
                SamplerName::Entropy => Sampler::Entropy,
                SamplerName::Uniform => Sampler::Uniform,
                SamplerName::Probabilistic => Sampler::Probabilistic { alpha: section.sampler_alpha },
                SamplerName::ProbabilisticSentinel => {
                    Sampler::ProbabilisticSentinel { alpha: section.sampler_alpha }
                }
                SamplerName::TopK => Sampler::TopK { k: section.sampler_k },
            },
            similarity: match section.similarity {
                SimilarityName::Mse => Similarity::MeanSquaredError,
                SimilarityName::CrossEntropy => Similarity::CrossEntropy,
                SimilarityName::FeaturisedCosine => Similarity::FeaturisedCosine,
                SimilarityName::MutualInformation => Similarity::MutualInformation,
                SimilarityName::KullbackLeibler => Similarity::KullbackLeibler,
            },
            inter_weight: section.inter_weight,
            learning_rate: section.learning_rate,
            weight_decay: section.weight_decay,
            epsilon: section.epsilon,
        }
    }

    /// Values of the classical method.
    pub fn stain(&self) -> StainConfig {
        let vectors = match self.stain.vectors {
            VectorsName::Auto => StainVectors::Auto,
            VectorsName::RuifrokJohnston => StainVectors::RuifrokJohnston,
            VectorsName::Macenko => StainVectors::Macenko,
        };
        StainConfig { vectors, smoothing_px: self.stain.smoothing_px }
    }

    /// Values of the default method.
    pub fn best(&self) -> BestConfig {
        let section = &self.best;
        BestConfig {
            rounds: section.rounds,
            steps: section.steps,
            network_mpp: section.network_mpp,
            stain: self.stain(),
            instances: self.instances(),
            training: SoftTargetConfig {
                targets: TARGETS,
                repeats: 1,
                crop_px: section.crop_px,
                batch: section.batch,
                epochs: 0, // Follows from `steps` and the number of pictures.
                learning_rate: section.learning_rate,
                weight_decay: section.weight_decay,
                epsilon: 0.0,
            },
        }
    }

    /// Values of the step from confidence to nuclei.
    pub fn instances(&self) -> InstancesConfig {
        let section = &self.instances;
        InstancesConfig {
            threshold: section.threshold,
            cleaning: match section.cleaning {
                CleaningName::Standard => Cleaning::Standard,
                CleaningName::Paper => Cleaning::Paper,
                CleaningName::None => Cleaning::None,
            },
            separation: match section.separation {
                SeparationName::Distance => Separation::Distance,
                SeparationName::Components => Separation::Components,
            },
            min_area_um2: section.min_area_um2,
            max_hole_um2: section.max_hole_um2,
            marker_depth_um: section.marker_depth_um,
            marker_smoothing_um: section.marker_smoothing_um,
        }
    }
}

fn not_toml(text: &str, error: &toml::de::Error) -> Error {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = 1 + before.matches('\n').count();
    Error::usage(format!("the config is not valid TOML: {}, in line {line}", error.message()))
}

fn require(holds: bool, key: &str, demand: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::usage(format!("the config's {key} {demand}"))) }
}

/// Puts the values of `given` over those of `table`; whole numbers become fractions where those are expected.
fn merge(table: &mut toml::Table, given: toml::Table, under: &str) -> Result<()> {
    for (key, value) in given {
        let path = format!("{under}{key}");
        match (table.get_mut(&key), value) {
            (None, _) => return Err(unknown_key(&path, table, under)),
            (Some(toml::Value::Table(inner)), toml::Value::Table(value)) => {
                merge(inner, value, &format!("{path}."))?;
            }
            (Some(old @ toml::Value::Float(_)), toml::Value::Integer(value)) => {
                *old = toml::Value::Float(value as f64);
            }
            (Some(old), value) if old.same_type(&value) => *old = value,
            (Some(old), value) => {
                return Err(Error::usage(format!(
                    "the config's {path} must be {}, not {}",
                    with_article(old.type_str()),
                    with_article(value.type_str())
                )));
            }
        }
    }
    Ok(())
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {kind}")
}

fn unknown_key(path: &str, table: &toml::Table, under: &str) -> Error {
    let known: Vec<String> = table.keys().map(|key| format!("{under}{key}")).collect();
    Error::usage(format!("the config has no key “{path}”"))
        .advise(format!("known here: {}", known.join(", ")))
}

/// `a.b` and `1` as the table `[a] b = 1`.
fn nested(path: &str, value: &str) -> toml::Table {
    let parsed = toml::from_str::<toml::Table>(&format!("value = {value}")).ok();
    let parsed = parsed.and_then(|mut table| table.remove("value"));
    let mut value = parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut names: Vec<&str> = path.split('.').collect();
    let outermost = names.remove(0);
    for name in names.into_iter().rev() {
        value = toml::Value::Table(toml::Table::from_iter([(name.to_owned(), value)]));
    }
    toml::Table::from_iter([(outermost.to_owned(), value)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str, overrides: &[(&str, &str)]) -> String {
        let owned: Vec<_> = overrides.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        ConfigFile::read(text, &owned).unwrap_err().to_string()
    }

    #[test]
    fn the_paper_is_the_default_and_files_and_flags_change_it() {
        assert_eq!(ConfigFile::read("", &[]).unwrap().contrastive(), ContrastiveConfig::paper());
        let overrides = [("contrastive.sampler".to_owned(), "top-k".to_owned())];
        let config = ConfigFile::read("[contrastive]\nsampler_k = 7\ninter_weight = 2", &overrides).unwrap();
        assert_eq!(config.contrastive().sampler, Sampler::TopK { k: 7 });
        assert_eq!(config.contrastive().inter_weight, 2.0);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let config = ConfigFile::default();
        assert_eq!(ConfigFile::read(&config.to_toml(), &[]).unwrap(), config);
    }

    #[test]
    fn what_was_kept_before_networks_saw_cells_is_read_as_it_was_meant() {
        let mut table = toml::Table::try_from(ConfigFile::default()).unwrap();
        let best = table.get_mut("best").and_then(toml::Value::as_table_mut).unwrap();
        assert!(best.remove("network_mpp").is_some());
        let config: ConfigFile = table.try_into().unwrap();
        assert_eq!(config.best().network_mpp, 0.0, "each pixel");
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_named() {
        assert!(message("[contrastive]\ncrop = 3", &[]).contains("no key “contrastive.crop”"));
        assert!(message("colour = 3", &[]).contains("known here: best, contrastive"));
        assert!(message("[best]\nsteps = \"many\"", &[]).contains("best.steps must be an integer"));
        assert!(message("", &[("contrastive.similarity", "vibes")]).contains("vibes"));
        assert!(message("", &[("contrastive.crop_px", "50")]).contains("larger than contrastive.patch_px"));
        assert!(message("", &[("method", "magic")]).ends_with("in `method`"));
        assert!(
            message("", &[("best.learning_rate", "inf")]).contains("best.learning_rate must be a number")
        );
        for value in ["-1", "4.1", "nan"] {
            assert!(
                message("", &[("best.network_mpp", value)]).contains("best.network_mpp must be"),
                "{value}"
            );
        }
        assert!(message("\n[[", &[]).contains("not valid TOML") && message("\n[[", &[]).contains("line 2"));
    }

    #[test]
    fn every_key_is_explained_once() {
        let table = toml::Table::try_from(ConfigFile::default()).unwrap();
        let mut paths = Vec::new();
        for (name, value) in &table {
            match value {
                toml::Value::Table(inner) => paths.extend(inner.keys().map(|key| format!("{name}.{key}"))),
                _ => paths.push(name.clone()),
            }
        }
        let mut explained: Vec<&str> = KEYS.iter().map(|key| key.path).collect();
        explained.sort_unstable();
        paths.sort_unstable();
        assert_eq!(explained, paths);
    }
}
