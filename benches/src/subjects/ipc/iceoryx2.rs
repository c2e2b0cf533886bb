//! Rival: iceoryx2, publish-subscribe without overflow, by samples that are loaned, and polled as its own
//! benchmark does: the next sample is loaned when the last has been sent.

use std::fmt::Debug;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ::iceoryx2::node::Node;
use ::iceoryx2::port::publisher::Publisher;
use ::iceoryx2::port::subscriber::Subscriber;
use ::iceoryx2::prelude::{
    BackpressureStrategy, Config, FileName, LogLevel, NodeBuilder, Path as ServicePath,
    SemanticString, ServiceName, SignalHandlingMode, ipc, set_log_level,
};
use ::iceoryx2::sample_mut_uninit::SampleMutUninit;
use ::iceoryx2::service::port_factory::publish_subscribe::PortFactory;

use crate::idle::Idle;
use crate::ipc::{Ends, Place, Receiver, Transport};
use crate::link::{Event, Sender, Words};

#[derive(Clone, Copy)]
pub(super) struct Iceoryx2;

/// How many messages a subscriber may have before the publisher waits.
const BUFFER: usize = 1_024;

impl Transport for Iceoryx2 {
    type Sender<const N: usize> = Publishing<N>;
    type Receiver<const N: usize> = Subscribed<N>;

    fn offer<const N: usize>(
        &self,
        place: &Place,
    ) -> io::Result<impl FnOnce() -> io::Result<Ends<Self, N>>> {
        let ends = ends(place, "there", "back")?;
        Ok(|| Ok(ends))
    }

    fn open<const N: usize>(&self, place: &Place) -> io::Result<Ends<Self, N>> {
        ends(place, "back", "there")
    }
}

/// Both sides do the same: whoever comes first makes the services.
fn ends<const N: usize>(place: &Place, to: &str, from: &str) -> io::Result<Ends<Iceoryx2, N>> {
    set_log_level(LogLevel::Error);
    let node = NodeBuilder::new()
        .config(&config(&place.directory)?)
        .signal_handling_mode(SignalHandlingMode::Disabled)
        .create::<ipc::Service>()
        .map_err(failed)?;
    let (to, from) = (service(&node, to)?, service(&node, from)?);
    let subscriber = from.subscriber_builder().buffer_size(BUFFER);
    let subscriber = subscriber.create().map_err(failed)?;
    let publisher = to
        .publisher_builder()
        .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered);
    let publisher = publisher.create().map_err(failed)?;
    let idle = if place.plan.crowded {
        Idle::Yield
    } else {
        Idle::Spin
    };
    let sender = Publishing {
        loaned: Some(publisher.loan_uninit().map_err(failed)?),
        publisher,
    };
    Ok((sender, Subscribed { subscriber, idle }))
}

/// Nothing is to be found by other users of the library, nor left among their files.
fn config(directory: &Path) -> io::Result<Config> {
    let mut config = Config::default();
    let root = ServicePath::new(directory.as_os_str().as_bytes()).map_err(failed)?;
    config.global.set_root_path(&root);
    let name = directory.file_name().unwrap_or_default();
    let prefix = [name.as_bytes(), b"-"].concat();
    config.global.prefix = FileName::new(&prefix).map_err(failed)?;
    Ok(config)
}

fn service<const N: usize>(
    node: &Node<ipc::Service>,
    name: &str,
) -> io::Result<PortFactory<ipc::Service, Words<N>, ()>> {
    let name = ServiceName::new(name).map_err(failed)?;
    node.service_builder(&name)
        .publish_subscribe::<Words<N>>()
        .max_publishers(1)
        .max_subscribers(1)
        .history_size(0)
        .subscriber_max_buffer_size(BUFFER)
        .enable_safe_overflow(false)
        .open_or_create()
        .map_err(failed)
}

fn failed(error: impl Debug) -> io::Error {
    io::Error::other(format!("iceoryx2: {error:?}"))
}

pub(super) struct Publishing<const N: usize> {
    /// Before the publisher, so that it is dropped first.
    loaned: Option<SampleMutUninit<ipc::Service, MaybeUninit<Words<N>>, ()>>,
    publisher: Publisher<ipc::Service, Words<N>, ()>,
}

impl<const N: usize> Sender for Publishing<N> {
    #[inline(always)]
    fn send(&mut self, number: u64) {
        let sample = self.loaned.take().expect("there is always a loaned sample");
        let sample = sample.write_payload(Words::numbered(number));
        let receivers = sample.send().expect("the sample should be sent");
        assert_eq!(receivers, 1, "nobody subscribes");
        let loaned = self.publisher.loan_uninit();
        self.loaned = Some(loaned.expect("there should be a sample to loan"));
    }
}

pub(super) struct Subscribed<const N: usize> {
    subscriber: Subscriber<ipc::Service, Words<N>, ()>,
    idle: Idle,
}

impl<const N: usize> Receiver<N> for Subscribed<N> {
    #[inline]
    fn receive(&mut self, mut handler: impl FnMut(&Words<N>)) {
        loop {
            match self.subscriber.receive().expect("the subscriber works") {
                Some(sample) => return handler(&sample),
                None => self.idle.wait(),
            }
        }
    }
}
