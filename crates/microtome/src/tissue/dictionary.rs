//! The tissue prototype dictionary: named centroids, with the encoder that they are of, in one file that can be sent on and
//! applied to other slides.
//!
//! The file is the encoder's ([`super::encoder::file`]) with the centroids of each level and a text beside its weights.

use super::clusters::Clusters;
use super::encoder::Encoder;
use super::encoder::file::EncoderParts;
use super::look::Look;
use super::tiles::{self, TileList};
use super::{embed, pretrain};
use crate::context::Context;
use crate::project::Project;
use crate::project::database::Origin;
use crate::project::settings::{Class, Tiles};
use microtome_nets::weights::{NamedTensor, from_safetensors, to_safetensors};
use microtome_vault::{Budget, Error, Result, disk};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Version of the file.
const VERSION: u64 = 1;
/// The text that says what the file is.
const RECORD: &str = "microtome_dictionary";
/// How the names of centroids begin, before their level.
const CENTROIDS: &str = "dictionary.centroids.";
/// Largest dictionary that is read.
const LARGEST: Budget = Budget::of_bytes(1 << 30);
/// Tiles nearer to their centroid than this share of all are what the dictionary knows.
const FAR_SHARE: f64 = 0.05;

/// A named centroid.
#[derive(Clone, Debug, PartialEq)]
pub struct Prototype {
    /// The cluster that it is the centroid of.
    pub cluster: usize,
    /// The place of its class in the list.
    pub class: usize,
    /// Share of what was shown that is of the class.
    pub share: f64,
}

/// Named centroids and what they are of.
pub struct Dictionary {
    /// What tissue can be.
    pub classes: Vec<Class>,
    /// The named centroids.
    pub prototypes: Vec<Prototype>,
    /// `[prototypes][dimensions]` by level of the encoder, of length 1.
    pub centroids: BTreeMap<usize, Vec<f32>>,
    /// What turns pixels into vectors.
    pub encoder: Encoder,
    /// Which tiles it was made of.
    pub tiles: Tiles,
    /// Mean over its slides of how they look.
    pub look: Look,
    /// The cosine to the nearest prototype that all but a twentieth of its tiles exceed.
    pub far_cosine: f64,
    /// Whether the names are from an oracle: an experiment, not a person's judgement.
    pub is_oracle_named: bool,
}

impl Dictionary {
    /// That of a project's named clusters.
    ///
    /// # Errors
    /// `Usage` when no cluster is named, or something before that is missing.
    pub fn of_project(project: &Project, clusters: &Clusters, context: &Context<'_>) -> Result<Self> {
        let encoder = pretrain::encoder(project)?;
        let namings = project.database.namings(&clusters.key)?;
        let is_oracle_named = namings.iter().any(|naming| naming.origin == Origin::Oracle);
        let mut prototypes = Vec::new();
        for naming in &namings {
            if let Some(class) = &naming.class {
                let class = project.settings.class(class)?;
                prototypes.push(Prototype { cluster: naming.cluster, class, share: naming.share });
            }
        }
        if prototypes.is_empty() {
            return Err(no_names(project, clusters)?);
        }
        let mut centroids = BTreeMap::new();
        for (level, all) in clusters.centroids_by_level(&encoder) {
            let dimensions = encoder.dimensions(level);
            let own = |of: &Prototype| all[of.cluster * dimensions..][..dimensions].to_vec();
            centroids.insert(level, prototypes.iter().flat_map(own).collect());
        }
        let look = mean_look(project, &encoder, context)?;
        let far_cosine = far_cosine(clusters, &prototypes);
        let classes = project.settings.classes.clone();
        let tiles = Tiles { imported: None, ..project.settings.tiles.clone() };
        Ok(Self { classes, prototypes, centroids, encoder, tiles, look, far_cosine, is_oracle_named })
    }

    /// The bytes of the file; `encoder` are those of the encoder's.
    ///
    /// # Errors
    /// `Input` when the encoder's are not; `Bug`.
    pub fn to_bytes(&self, encoder: &[u8]) -> Result<Vec<u8>> {
        let (mut tensors, mut texts) = from_safetensors(encoder)?;
        for (level, centroids) in &self.centroids {
            let shape = vec![self.prototypes.len(), self.encoder.dimensions(*level)];
            tensors.push(NamedTensor {
                name: format!("{CENTROIDS}{level}"),
                shape,
                values: centroids.clone(),
            });
        }
        let prototype = |of: &Prototype| json!({"cluster": of.cluster, "class": of.class, "share": of.share});
        let record = json!({
            "version": VERSION,
            "classes": self.classes,
            "prototypes": self.prototypes.iter().map(prototype).collect::<Vec<Value>>(),
            "encoder_sha256": self.encoder.sha256,
            "tiles": self.tiles,
            "look": self.look.to_json(),
            "far_cosine": self.far_cosine,
            "named_by": if self.is_oracle_named { "oracle" } else { "person" },
        });
        texts.insert(RECORD.to_owned(), record.to_string());
        to_safetensors(&tensors, &texts)
    }

    /// Reads one.
    ///
    /// # Errors
    /// `Input` when it is none, or of a newer version.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = disk::read_file_bounded(path, LARGEST)?;
        Self::from_bytes(&bytes).map_err(|error| error.at(path))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (tensors, texts) = from_safetensors(bytes)?;
        let Some(text) = texts.get(RECORD) else {
            return Err(Error::input("this is no dictionary of tissue prototypes")
                .advise("a project keeps its own in models/dictionary.safetensors"));
        };
        let broken = || Error::input("what the dictionary says of itself is damaged");
        let record: Value = serde_json::from_str(text).map_err(|_| broken())?;
        match record.get("version").and_then(Value::as_u64) {
            Some(VERSION) => {}
            Some(newer) if newer > VERSION => {
                return Err(Error::input(format!(
                    "the dictionary is of version {newer}, newer than this program"
                )));
            }
            _ => return Err(broken()),
        }
        let value = |key: &str| record.get(key).cloned().ok_or_else(broken);
        let classes: Vec<Class> = serde_json::from_value(value("classes")?).map_err(|_| broken())?;
        let tiles: Tiles = serde_json::from_value(value("tiles")?).map_err(|_| broken())?;
        let prototype = |value: &Value| {
            let number = |key: &str| value.get(key).and_then(Value::as_u64).map(|number| number as usize);
            let class = number("class").filter(|class| *class < classes.len())?;
            let share = value.get("share").and_then(Value::as_f64)?;
            Some(Prototype { cluster: number("cluster")?, class, share })
        };
        let list = value("prototypes")?;
        let prototypes: Option<Vec<Prototype>> =
            list.as_array().ok_or_else(broken)?.iter().map(prototype).collect();
        let prototypes = prototypes.filter(|all| !all.is_empty()).ok_or_else(broken)?;
        let (own, weights): (Vec<NamedTensor>, Vec<NamedTensor>) =
            tensors.into_iter().partition(|tensor| tensor.name.starts_with(CENTROIDS));
        let sha256 = value("encoder_sha256")?.as_str().ok_or_else(broken)?.to_owned();
        let mut texts = texts;
        texts.remove(RECORD);
        let encoder = EncoderParts::from_bytes(&to_safetensors(&weights, &texts)?)?.encoder(sha256)?;
        let mut centroids = BTreeMap::new();
        for tensor in own {
            let level = tensor.name[CENTROIDS.len()..].parse::<usize>().map_err(|_| broken())?;
            let is_whole = encoder.levels().contains(&level)
                && tensor.shape == [prototypes.len(), encoder.dimensions(level)];
            centroids.insert(level, if is_whole { tensor.values } else { return Err(broken()) });
        }
        if encoder.levels().iter().any(|level| !centroids.contains_key(level)) {
            return Err(broken());
        }
        Ok(Self {
            classes,
            prototypes,
            centroids,
            encoder,
            tiles,
            look: Look::from_json(&value("look")?)?,
            far_cosine: value("far_cosine")?.as_f64().ok_or_else(broken)?,
            is_oracle_named: value("named_by")? == "oracle",
        })
    }

    /// The level that is meant, if there is such a one.
    ///
    /// # Errors
    /// `Usage` when the encoder has no such level.
    pub fn level(&self, wanted: Option<usize>) -> Result<usize> {
        let levels = self.encoder.levels();
        match wanted {
            None => Ok(self.encoder.level()),
            Some(level) if levels.contains(&level) => Ok(level),
            Some(level) => {
                let names: Vec<String> = levels.iter().map(usize::to_string).collect();
                Err(Error::usage(format!("the encoder {} has no level {level}", self.encoder.kind))
                    .advise(format!("it has {}", names.join(", "))))
            }
        }
    }
}

fn no_names(project: &Project, clusters: &Clusters) -> Result<Error> {
    let root = project.root.display();
    let advice = format!(
        "fill in {root}/out/clusters/names.csv, and name them with `microtome tissue name {root} --from {root}/out/clusters/names.csv`"
    );
    Ok(match project.database.last_naming_of_others(&clusters.key)? {
        None => Error::usage("no cluster has a name yet").advise(advice),
        Some(at) => Error::usage(format!(
            "these clusters have no names; other clusters had, the last at {at}"
        ))
        .advise(format!(
            "{advice}; the names of the other clusters are kept, and count again when those are made again"
        )),
    })
}

fn mean_look(project: &Project, encoder: &Encoder, context: &Context<'_>) -> Result<Look> {
    let mut looks = Vec::new();
    for slide in project.slides()? {
        let list: Option<TileList> = tiles::read(project, &slide, context)?;
        if let Some(list) = list.filter(|list| !list.corners_px.is_empty()) {
            looks.push(embed::look(project, &slide, &list, encoder)?);
        }
    }
    let mean = |of: &dyn Fn(&Look) -> [f32; 3]| -> [f32; 3] {
        std::array::from_fn(|index| {
            let sum: f64 = looks.iter().map(|look| f64::from(of(look)[index])).sum();
            (sum / looks.len().max(1) as f64) as f32
        })
    };
    Ok(Look {
        stain: microtome_kernels::views::stain::StainStatistics {
            mean: mean(&|look| look.stain.mean),
            deviation: mean(&|look| look.stain.deviation),
        },
        density_mean: mean(&|look| look.density_mean),
        density_deviation: mean(&|look| look.density_deviation),
    })
}

/// The cosine to its centroid that all but a twentieth of the named clusters' tiles exceed.
fn far_cosine(clusters: &Clusters, prototypes: &[Prototype]) -> f64 {
    let is_named = |cluster: u32| prototypes.iter().any(|prototype| prototype.cluster == cluster as usize);
    let all = clusters.cosine.iter().zip(&clusters.assignment);
    let mut cosines: Vec<f32> =
        all.filter(|(_, cluster)| is_named(**cluster)).map(|(cosine, _)| *cosine).collect();
    cosines.sort_by(f32::total_cmp);
    cosines.get((FAR_SHARE * cosines.len() as f64) as usize).copied().unwrap_or(-1.0).into()
}
