//! torchvision's names of residual networks' tensors, which are also timm's: its files load here, ours load there.
//!
//! Names agree but for what leads past a block, `downsample.conv` and `downsample.bn` here, which there are places in
//! a sequence, `downsample.0` and `downsample.1`; and there each batch norm counts its batches.

use super::{Architecture, ResNet};
use crate::weights::{NamedTensor, Weights, apply, collect, from_safetensors_except, named};
use microtome_kernels::network::channels_last::Convolution;
use microtome_vault::{Error, Result};

/// Our part of a name, and torchvision's.
const PARTS: [(&str, &str); 2] =
    [(".downsample.conv.", ".downsample.0."), (".downsample.bn.", ".downsample.1.")];
/// How the names of counters of batches end: whole numbers, which nothing here needs.
const COUNTER: &str = ".num_batches_tracked";
/// The first layer's weight.
const STEM: &str = "conv1.weight";
/// How the names of the head begin.
const HEAD: &str = "fc.";

/// What is to become of a file's head when it has another number of outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherHead {
    /// The file is refused.
    Refuse,
    /// The file's head is left out, so that the network keeps its own.
    Drop,
}

/// torchvision's name of a tensor of ours.
pub fn torchvision_name(name: &str) -> String {
    PARTS.into_iter().fold(name.to_owned(), |name, (ours, theirs)| name.replace(ours, theirs))
}

/// Our name of a tensor of torchvision's.
pub fn our_name(name: &str) -> String {
    PARTS.into_iter().fold(name.to_owned(), |name, (ours, theirs)| name.replace(theirs, ours))
}

/// The weights of a [`ResNet`] under torchvision's names. Counters of batches are not made up: PyTorch's
/// `load_state_dict` starts them at zero where a file has none.
pub fn to_torchvision(weights: Weights) -> Weights {
    let rename = |tensor: NamedTensor| NamedTensor { name: torchvision_name(&tensor.name), ..tensor };
    weights.into_iter().map(rename).collect()
}

/// Weights under torchvision's names under ours, without counters of batches.
fn renamed(weights: Weights) -> Weights {
    let rename = |tensor: NamedTensor| NamedTensor { name: our_name(&tensor.name), ..tensor };
    let is_weight = |tensor: &NamedTensor| !tensor.name.ends_with(COUNTER);
    weights.into_iter().filter(is_weight).map(rename).collect()
}

/// The tensors of the network within a checkpoint that holds more, such as `state_dict.module.encoder.conv1.weight` beside a
/// projector: those beside the first layer, under their names from there on.
///
/// # Errors
/// `Input` when several networks could be meant.
fn within(weights: Weights) -> Result<Weights> {
    let leading = |tensor: &NamedTensor| tensor.name.strip_suffix(STEM).map(str::to_owned);
    let is_first = |leading: &String| !leading.contains("layer");
    let mut all: Vec<String> = weights.iter().filter_map(leading).filter(is_first).collect();
    all.sort_by_key(String::len);
    let leading = match &all[..] {
        [] => return Ok(weights),
        [leading, ..] if leading.is_empty() => return Ok(weights),
        [first, second, ..] if first.len() == second.len() => {
            return Err(Error::input(format!("the file holds two networks, {first}* and {second}*"))
                .advise("save the one that is meant alone, as with torch.save(network.state_dict(), FILE)"));
        }
        [leading, ..] => leading.clone(),
    };
    let own = |tensor: NamedTensor| {
        let name = tensor.name.strip_prefix(&leading).filter(|name| is_of_body(name))?.to_owned();
        Some(NamedTensor { name, ..tensor })
    };
    Ok(weights.into_iter().filter_map(own).collect())
}

/// Whether a name is that of a layer before the head.
fn is_of_body(name: &str) -> bool {
    ["conv1.", "bn1.", "layer"].iter().any(|start| name.starts_with(start))
}

/// The network that weights under torchvision's names are of, and its body's weights under ours: their head is left out.
///
/// # Errors
/// `Input` when they are of no network that is known.
pub fn recognised(weights: Weights) -> Result<(Architecture, Weights)> {
    let mut weights = renamed(within(weights)?);
    weights.retain(|tensor| !tensor.name.starts_with(HEAD));
    let is_of = |architecture: &Architecture| {
        let body = body(*architecture);
        body.len() == weights.len() && body.iter().all(|(name, shape)| named(&weights, name, shape).is_ok())
    };
    match Architecture::ALL.into_iter().find(is_of) {
        Some(architecture) => Ok((architecture, weights)),
        None => {
            let names: Vec<&str> = Architecture::ALL.iter().map(|architecture| architecture.name).collect();
            Err(Error::input("the weights are of no network that is known here")
                .advise(format!("these are: {}, with torchvision's names", names.join(", "))))
        }
    }
}

/// Weights under torchvision's names as those of a [`ResNet`] with `outputs` outputs, without counters of batches.
///
/// # Errors
/// `Input` when a tensor of the body is missing, is of another shape, or has no place in the network (deeper networks
/// have all tensors of ResNet-18, and more); when the head is missing or another, unless it may be dropped.
pub fn from_torchvision(
    architecture: Architecture,
    weights: Weights,
    outputs: usize,
    head: OtherHead,
) -> Result<Weights> {
    let mut weights = renamed(weights);
    let body = body(architecture);
    for (name, shape) in &body {
        named(&weights, name, shape)?;
    }
    let expected = head_tensors(architecture, outputs);
    if let Some(tensor) =
        weights.iter().find(|tensor| !body.iter().chain(&expected).any(|(name, _)| *name == tensor.name))
    {
        return Err(Error::input(format!(
            "the model's tensor “{}” has no place in {}, so it is of another architecture",
            tensor.name, architecture.name
        )));
    }
    match (check_head(architecture, &weights, outputs), head) {
        (Err(error), OtherHead::Refuse) => return Err(error),
        (Err(_), OtherHead::Drop) => weights.retain(|tensor| !tensor.name.starts_with(HEAD)),
        (Ok(()), _) => {}
    }
    Ok(weights)
}

fn check_head(architecture: Architecture, weights: &[NamedTensor], outputs: usize) -> Result<()> {
    if let Some(bias) = weights.iter().find(|tensor| tensor.name == "fc.bias")
        && bias.values.len() != outputs
    {
        let found = bias.values.len();
        return Err(Error::input(format!("the model's head has {found} outputs where {outputs} are wanted"))
            .advise("drop the head and train a new one on the model's features"));
    }
    let expected = head_tensors(architecture, outputs);
    expected.iter().try_for_each(|(name, shape)| named(weights, name, shape).map(drop))
}

fn head_tensors(architecture: Architecture, outputs: usize) -> [(String, Vec<usize>); 2] {
    [("fc.weight".to_owned(), vec![outputs, architecture.features()]), ("fc.bias".to_owned(), vec![outputs])]
}

/// Name and shape of each tensor before the head.
fn body(architecture: Architecture) -> Vec<(String, Vec<usize>)> {
    let mut tensors = layer("conv1", "bn1", architecture.stem).to_vec();
    for (stage, shapes) in architecture.blocks().into_iter().enumerate() {
        for (block, shape) in shapes.into_iter().enumerate() {
            let at = |name: &str| format!("layer{}.{block}.{name}", stage + 1);
            for (index, convolution) in shape.layers().into_iter().enumerate() {
                let number = index + 1;
                tensors.extend(layer(
                    &at(&format!("conv{number}")),
                    &at(&format!("bn{number}")),
                    convolution,
                ));
            }
            if let Some(past) = shape.past() {
                tensors.extend(layer(&at("downsample.conv"), &at("downsample.bn"), past));
            }
        }
    }
    tensors
}

fn layer(conv: &str, norm: &str, layer: Convolution) -> [(String, Vec<usize>); 5] {
    let Convolution { inputs, outputs, kernel, .. } = layer;
    let of_norm = |name: &str| (format!("{norm}.{name}"), vec![outputs]);
    [
        (format!("{conv}.weight"), vec![outputs, inputs, kernel, kernel]),
        of_norm("weight"),
        of_norm("bias"),
        of_norm("running_mean"),
        of_norm("running_var"),
    ]
}

impl ResNet {
    /// The network with the weights of a safetensors file that has torchvision's names; a network without a head takes the
    /// body alone.
    ///
    /// # Errors
    /// `Input` when the bytes are not safetensors, and as [`from_torchvision`].
    pub fn with_torchvision(self, architecture: Architecture, bytes: &[u8], head: OtherHead) -> Result<Self> {
        let (weights, _) = from_safetensors_except(bytes, |name| name.ends_with(COUNTER))?;
        let Some(own) = &self.fc else {
            let weights = from_torchvision(architecture, weights, 0, OtherHead::Drop)?;
            return apply(self, &weights);
        };
        let mut weights = from_torchvision(architecture, weights, own.bias.dims()[0], head)?;
        if !weights.iter().any(|tensor| tensor.name.starts_with(HEAD)) {
            let own = collect(own).into_iter();
            weights
                .extend(own.map(|tensor| NamedTensor { name: format!("{HEAD}{}", tensor.name), ..tensor }));
        }
        apply(self, &weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initialise::Initialiser;
    use crate::weights::to_safetensors;
    use microtome_vault::Fault;

    #[test]
    fn a_network_is_found_within_a_checkpoint() {
        let own = Architecture::SMALL;
        let tensor = |(name, shape): (String, Vec<usize>)| {
            let values = vec![0.5; shape.iter().product()];
            NamedTensor { name: torchvision_name(&name), shape, values }
        };
        let plain: Weights = body(own).into_iter().map(tensor).collect();
        let (found, weights) = recognised(plain.clone()).unwrap();
        assert_eq!((found, weights.len()), (own, plain.len()));
        let led = |tensor: &NamedTensor| NamedTensor {
            name: format!("state_dict.module.encoder.{}", tensor.name),
            ..tensor.clone()
        };
        let mut nested: Weights = plain.iter().map(led).collect();
        nested.push(tensor(("state_dict.module.projector.0.weight".to_owned(), vec![4, 4])));
        nested.push(tensor(("state_dict.module.encoder.fc.weight".to_owned(), vec![4, 4])));
        nested.push(tensor(("optimizer.state.0.exp_avg".to_owned(), vec![3])));
        assert_eq!(recognised(nested).unwrap(), (own, weights));
        let two: Weights = ["encoder_k.", "encoder_q."]
            .into_iter()
            .flat_map(|lead| {
                plain
                    .iter()
                    .map(move |own| NamedTensor { name: format!("{lead}{}", own.name), ..own.clone() })
            })
            .collect();
        assert!(recognised(two).unwrap_err().to_string().contains("two networks"));
        let mut odd = plain;
        odd.push(tensor(("decoder.weight".to_owned(), vec![2])));
        assert!(recognised(odd).is_err(), "what has no place is not passed over");
    }
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    const R: Architecture = Architecture::RESNET18;

    fn network(seed: u64, outputs: usize) -> ResNet {
        ResNet::new(Architecture::RESNET18, Some(outputs), &mut Initialiser::new(seed))
    }

    /// A file as torchvision's weights are written: with a whole number beside each batch norm.
    fn with_counters(bytes: &[u8]) -> Vec<u8> {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header: serde_json::Map<String, Value> =
            serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let mut values = bytes[8 + length..].to_vec();
        let means = header.keys().filter_map(|name| name.strip_suffix(".running_mean")).map(str::to_owned);
        for norm in means.collect::<Vec<_>>() {
            let offsets = [values.len(), values.len() + 8];
            let counter = json!({"dtype": "I64", "shape": [], "data_offsets": offsets});
            header.insert(format!("{norm}{COUNTER}"), counter);
            values.extend(7i64.to_le_bytes());
        }
        let header = serde_json::to_vec(&header).unwrap();
        [&(header.len() as u64).to_le_bytes(), &header[..], &values].concat()
    }

    fn file(weights: &[NamedTensor]) -> Vec<u8> {
        with_counters(&to_safetensors(weights, &BTreeMap::new()).unwrap())
    }

    fn refusal(weights: Weights, head: OtherHead) -> String {
        let error = from_torchvision(R, weights, 3, head).unwrap_err();
        assert_eq!(error.fault(), Fault::Input);
        error.to_string()
    }

    #[test]
    fn names_are_torchvisions_and_come_back() {
        let weights = collect(&network(0, 3));
        let theirs = to_torchvision(weights.clone());
        let names: Vec<&str> = theirs.iter().map(|tensor| tensor.name.as_str()).collect();
        let expected = [
            "conv1.weight",
            "bn1.running_var",
            "layer1.0.conv1.weight",
            "layer2.0.downsample.0.weight",
            "layer2.0.downsample.1.weight",
            "layer4.0.downsample.1.running_mean",
            "layer4.1.bn2.bias",
            "fc.weight",
        ];
        assert!(expected.iter().all(|name| names.contains(name)), "{names:?}");
        assert!(!names.iter().any(|name| name.contains("downsample.conv") || name.contains("downsample.bn")));
        // 20 convolutions, 20 batch norms of 4 tensors, a head of 2.
        assert_eq!(names.len(), 102);
        assert!(from_torchvision(R, theirs, 3, OtherHead::Refuse).unwrap() == weights);
    }

    #[test]
    fn a_file_with_counters_of_batches_loads() {
        let weights = collect(&network(0, 3));
        let bytes = file(&to_torchvision(weights.clone()));
        let loaded = network(1, 3).with_torchvision(R, &bytes, OtherHead::Refuse).unwrap();
        assert!(collect(&loaded) == weights);
    }

    #[test]
    fn a_head_of_another_size_is_refused_or_dropped() {
        let bytes = file(&to_torchvision(collect(&network(0, 1_000))));
        let error = network(1, 3).with_torchvision(R, &bytes, OtherHead::Refuse).unwrap_err();
        assert_eq!(error.fault(), Fault::Input);
        assert!(error.to_string().contains("1000 outputs where 3 are wanted"), "{error}");
        let own = collect(&network(1, 3));
        let loaded = collect(&network(1, 3).with_torchvision(R, &bytes, OtherHead::Drop).unwrap());
        for (tensor, (own, source)) in loaded.iter().zip(own.iter().zip(&collect(&network(0, 1_000)))) {
            let expected = if tensor.name.starts_with(HEAD) { own } else { source };
            assert!(tensor == expected, "{}", tensor.name);
        }
    }

    #[test]
    fn a_file_without_a_head_serves_when_the_head_may_be_dropped() {
        let mut weights = to_torchvision(collect(&network(0, 3)));
        weights.retain(|tensor| !tensor.name.starts_with(HEAD));
        assert!(refusal(weights.clone(), OtherHead::Refuse).contains("fc.weight"));
        assert_eq!(from_torchvision(R, weights, 3, OtherHead::Drop).unwrap().len(), 100);
    }

    #[test]
    fn every_network_is_recognised_by_its_tensors() {
        for architecture in Architecture::ALL {
            let network = ResNet::new(architecture, Some(5), &mut Initialiser::new(0));
            let all = collect(&network);
            let (found, body) = recognised(to_torchvision(all.clone())).unwrap();
            assert_eq!(found, architecture);
            assert_eq!(body.len() + 2, all.len());
        }
        // torchvision's state dicts have 122, 218 and 320 tensors, of which 20, 36 and 53 count batches.
        let count =
            |architecture| collect(&ResNet::new(architecture, Some(1000), &mut Initialiser::new(0))).len();
        assert_eq!(
            [Architecture::RESNET18, Architecture::RESNET34, Architecture::RESNET50].map(count),
            [102, 182, 267]
        );
        assert!(recognised(Vec::new()).is_err());
    }

    #[test]
    fn another_architecture_is_refused() {
        let weights = to_torchvision(collect(&network(0, 3)));
        let mut deeper = weights.clone();
        deeper.push(NamedTensor { name: "layer1.2.bn1.bias".into(), shape: vec![1], values: vec![0.0] });
        assert!(refusal(deeper, OtherHead::Drop).contains("layer1.2.bn1.bias"));
        let mut shallower = weights.clone();
        shallower.retain(|tensor| tensor.name != "layer3.0.downsample.1.bias");
        assert!(refusal(shallower, OtherHead::Drop).contains("layer3.0.downsample.bn.bias"));
        let mut narrower = weights;
        narrower[0].shape.swap(0, 1);
        assert!(refusal(narrower, OtherHead::Drop).contains("conv1.weight"));
    }
}
