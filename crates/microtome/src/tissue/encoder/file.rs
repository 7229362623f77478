//! An encoder as one safetensors file: a network's weights under torchvision's names, the projections, and what it is.

use super::imported::{self, Imported};
use super::network::{Input, Network};
use super::onnx::OnnxReference;
use super::projection::Projection;
use super::texture::Texture;
use super::{Backbone, Encoder, Reading};
use microtome_nets::resnet::names::{our_name, recognised, to_torchvision};
use microtome_nets::resnet::{Architecture, FoldedResNet};
use microtome_nets::weights::{NamedTensor, Weights, from_safetensors_except, named, to_safetensors};
use microtome_vault::checksum::sha256_hex;
use microtome_vault::{Error, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Version of the file.
const VERSION: u64 = 1;
/// The text that says what the file is.
const RECORD: &str = "microtome_encoder";
/// How the names of projections begin.
const PROJECTION: &str = "projection.";

/// What makes an encoder, as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderParts {
    /// `texture`, or the network's name.
    pub kind: String,
    /// What a network is shown.
    pub input: Input,
    /// Which cells a tile's vector is the mean of.
    pub reading: Reading,
    /// A network's, under torchvision's names.
    pub weights: Weights,
    /// Where an ONNX network lies.
    pub onnx: Option<OnnxReference>,
    /// By level.
    pub projections: BTreeMap<usize, Projection>,
    /// How it came about, for people.
    pub record: Value,
}

impl EncoderParts {
    /// The bytes of the file.
    ///
    /// # Errors
    /// `Bug` when the library refuses its own format.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let record = json!({
            "version": VERSION,
            "kind": self.kind,
            "input": self.input.name(),
            "reading": if self.reading == Reading::Tile { "tile" } else { "middle" },
            "onnx": self.onnx,
            "record": self.record,
        });
        let mut tensors = self.weights.clone();
        for (level, projection) in &self.projections {
            let dimensions = projection.mean.len();
            let mut put = |name: &str, shape: Vec<usize>, values: &[f32]| {
                let name = format!("{PROJECTION}{level}.{name}");
                tensors.push(NamedTensor { name, shape, values: values.to_vec() });
            };
            put("mean", vec![dimensions], &projection.mean);
            if let Some(matrix) = &projection.matrix {
                put("matrix", vec![dimensions, dimensions], matrix);
            }
        }
        to_safetensors(&tensors, &BTreeMap::from([(RECORD.to_owned(), record.to_string())]))
    }

    /// The parts out of the bytes of a file; a file of weights alone, torchvision's say, is an encoder that sees colours as
    /// those expect, and reads whole tiles.
    ///
    /// # Errors
    /// `Input` when it is no encoder, or of a newer version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        // Counters of batches, which others' files have, are whole numbers that nothing needs.
        let (tensors, texts) = from_safetensors_except(bytes, |name| name.ends_with(".num_batches_tracked"))?;
        let (projections, weights): (Weights, Weights) =
            tensors.into_iter().partition(|tensor| tensor.name.starts_with(PROJECTION));
        let Some(text) = texts.get(RECORD) else {
            return Ok(Self::of_weights(weights)?.0);
        };
        let broken = || Error::input("what the encoder says of itself is damaged");
        let record: Value = serde_json::from_str(text).map_err(|_| broken())?;
        let field = |name: &str| record.get(name).and_then(Value::as_str).ok_or_else(broken);
        match record.get("version").and_then(Value::as_u64) {
            Some(VERSION) => {}
            Some(newer) if newer > VERSION => {
                return Err(Error::input(format!(
                    "the encoder is of version {newer}, newer than this program"
                )));
            }
            _ => return Err(broken()),
        }
        Ok(Self {
            kind: field("kind")?.to_owned(),
            input: Input::named(field("input")?).ok_or_else(broken)?,
            reading: if field("reading")? == "tile" { Reading::Tile } else { Reading::Middle },
            weights,
            onnx: match record.get("onnx") {
                None | Some(Value::Null) => None,
                Some(value) => Some(serde_json::from_value(value.clone()).map_err(|_| broken())?),
            },
            projections: read_projections(&projections)?,
            record: record.get("record").cloned().unwrap_or_default(),
        })
    }

    /// An encoder out of nothing but a network's weights under torchvision's names.
    ///
    /// # Errors
    /// `Input` when they are of no network that is known.
    pub fn of_weights(weights: Weights) -> Result<(Self, Architecture)> {
        let (architecture, weights) = recognised(weights)?;
        let parts = Self {
            kind: architecture.name.to_owned(),
            input: Input::ImageNet,
            reading: Reading::Tile,
            weights: to_torchvision(weights),
            onnx: None,
            projections: BTreeMap::new(),
            record: json!({"origin": "weights from a file"}),
        };
        Ok((parts, architecture))
    }

    /// An encoder out of an ONNX network.
    ///
    /// # Errors
    /// As [`OnnxReference::of_file`].
    pub fn of_onnx(path: &Path, tile_px: usize) -> Result<Self> {
        let onnx = OnnxReference::of_file(path, tile_px)?;
        Ok(Self {
            kind: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            input: Input::Colour,
            reading: onnx.reading(),
            weights: Vec::new(),
            onnx: Some(onnx),
            projections: BTreeMap::new(),
            record: json!({"origin": "ONNX"}),
        })
    }

    /// The encoder; `sha256` is that of its file.
    ///
    /// # Errors
    /// `Input` when the weights are not the network's.
    pub fn encoder(&self, sha256: String) -> Result<Encoder> {
        let backbone: Box<dyn Backbone> = if let Some(onnx) = &self.onnx {
            Box::new(onnx.open()?)
        } else if self.kind == "texture" {
            Box::new(Texture)
        } else if self.kind == imported::KIND {
            let centre = self.projections.get(&imported::LEVEL);
            let broken = || Error::input("what the encoder says of itself is damaged");
            Box::new(Imported { dimensions: centre.ok_or_else(broken)?.mean.len() })
        } else {
            let (architecture, weights) = recognised(self.weights.clone())?;
            Box::new(Network { network: FoldedResNet::new(architecture, &weights)?, input: self.input })
        };
        for (level, projection) in &self.projections {
            if !backbone.levels().contains(level) || backbone.dimensions(*level) != projection.mean.len() {
                return Err(Error::input("the encoder's projection does not fit its network"));
            }
        }
        let (kind, projections) = (self.kind.clone(), self.projections.clone());
        Ok(Encoder { kind, sha256, reading: self.reading, backbone, projections })
    }
}

impl Encoder {
    /// The encoder in the bytes of a file.
    ///
    /// # Errors
    /// As [`EncoderParts::from_bytes`] and [`EncoderParts::encoder`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        EncoderParts::from_bytes(bytes)?.encoder(sha256_hex(bytes))
    }
}

fn read_projections(tensors: &[NamedTensor]) -> Result<BTreeMap<usize, Projection>> {
    let broken = || Error::input("the encoder's projection is damaged");
    let mut projections = BTreeMap::new();
    for tensor in tensors {
        let name = our_name(&tensor.name);
        let Some(level) = name.strip_prefix(PROJECTION).and_then(|rest| rest.strip_suffix(".mean")) else {
            continue;
        };
        let dimensions = tensor.values.len();
        let matrix = format!("{PROJECTION}{level}.matrix");
        let matrix = match tensors.iter().any(|tensor| tensor.name == matrix) {
            true => Some(named(tensors, &matrix, &[dimensions, dimensions])?.values.clone()),
            false => None,
        };
        let level = level.parse().map_err(|_| broken())?;
        projections.insert(level, Projection { mean: tensor.values.clone(), matrix });
    }
    Ok(projections)
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtome_nets::simclr::{Recipe, untrained};

    #[test]
    fn parts_are_written_and_read_back_and_make_an_encoder() {
        let projection = Projection { mean: vec![0.5; 128], matrix: None };
        let parts = EncoderParts {
            kind: "small".to_owned(),
            input: Input::Stain,
            reading: Reading::Middle,
            weights: untrained(&Recipe::small(), 1),
            onnx: None,
            projections: BTreeMap::from([(3, projection)]),
            record: json!({"epochs": 0}),
        };
        let bytes = parts.to_bytes().unwrap();
        let mut read = EncoderParts::from_bytes(&bytes).unwrap();
        read.weights.sort_by(|a, b| a.name.cmp(&b.name));
        let mut own = parts.clone();
        own.weights.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(read, own);
        let encoder = Encoder::from_bytes(&bytes).unwrap();
        assert_eq!((encoder.level(), encoder.dimensions(3), encoder.stride_px(3)), (3, 128, 8));
        let wrong = EncoderParts {
            projections: BTreeMap::from([(2, Projection { mean: vec![0.0; 3], matrix: None })]),
            ..parts
        };
        assert!(wrong.encoder(String::new()).is_err());
    }

    #[test]
    fn weights_alone_are_an_encoder_and_anything_else_is_refused() {
        let recipe = Recipe { architecture: Architecture::RESNET18, ..Recipe::small() };
        let bytes = to_safetensors(&untrained(&recipe, 1), &BTreeMap::new()).unwrap();
        let encoder = Encoder::from_bytes(&bytes).unwrap();
        assert_eq!((encoder.kind.as_str(), encoder.levels()), ("resnet18", vec![2, 3, 4]));
        // As others write them: with counters of batches, and in half the width.
        let mut half = Vec::new();
        let mut header = serde_json::Map::new();
        for tensor in untrained(&recipe, 1) {
            let begin = half.len();
            half.extend(tensor.values.iter().flat_map(|_| [0x00, 0x34]));
            let entry = json!({"dtype": "F16", "shape": tensor.shape, "data_offsets": [begin, half.len()]});
            header.insert(tensor.name, entry);
        }
        let end = half.len();
        half.extend(7i64.to_le_bytes());
        let counter = json!({"dtype": "I64", "shape": [], "data_offsets": [end, end + 8]});
        header.insert("bn1.num_batches_tracked".to_owned(), counter);
        let header = serde_json::to_vec(&header).unwrap();
        let file = [&(header.len() as u64).to_le_bytes()[..], &header, &half].concat();
        let parts = EncoderParts::from_bytes(&file).unwrap();
        assert!(parts.weights.iter().all(|tensor| tensor.values.iter().all(|value| *value == 0.25)));
        assert!(Encoder::from_bytes(b"nothing").is_err());
        let newer = BTreeMap::from([(RECORD.to_owned(), json!({"version": 9}).to_string())]);
        assert!(EncoderParts::from_bytes(&to_safetensors(&[], &newer).unwrap()).is_err());
    }
}
