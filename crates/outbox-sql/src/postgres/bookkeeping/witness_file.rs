//! A file of the relay's own with what it read of the service's database. A bookkeeping in that database goes back with it
//! when it is restored from a backup, and then agrees with whatever history it finds; this file does not.

use std::{
    fs,
    io::{ErrorKind as IoKind, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use outbox::{
    CommitId, ErrorKind, PartitionId, Position, RouteName, StoreError,
    bookkeeping::{Checkpoint, ListedWitness, WitnessList},
    store::Witness,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

/// The file, which is made with the first checkpoint.
#[derive(Clone)]
pub(super) struct WitnessFile {
    path: Arc<Path>,
    /// One change at a time. Another process makes none: only the lease's owner does, or an operator while none runs.
    changing: Arc<Mutex<()>>,
}

/// What is in it.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    /// The bookkeeping that it belongs to.
    bookkeeping: String,
    /// How many witnesses were ever noted.
    noted: u64,
    lists: Vec<Stored>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    route: String,
    partition: String,
    /// How many of this list were ever noted.
    added: u64,
    /// Newest first: number, index, position, and commit in hexadecimal.
    witnesses: Vec<(u64, u64, String, String)>,
}

impl WitnessFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path: path.into(), changing: Arc::default() }
    }

    /// Notes what was read, before the checkpoint behind it is stored: what was read was read, whatever becomes of that.
    pub(super) async fn note(
        &self,
        id: &str,
        route: &RouteName,
        partition: &PartitionId,
        witness: &Witness,
    ) -> Result<(), StoreError> {
        let (route, partition, witness) = (route.to_string(), partition.as_str().to_owned(), witness.clone());
        self.change(id, move |content| {
            let number = content.noted + 1;
            let place = content.lists.iter().position(|list| list.route == route && list.partition == partition);
            let mut list = place.map(|place| content.lists[place].list()).transpose()?.unwrap_or_default();
            if list.add(number, &witness) {
                content.noted = number;
                let stored = Stored::of(route, partition, &list);
                match place {
                    Some(place) => content.lists[place] = stored,
                    None => content.lists.push(stored),
                }
            }
            Ok(())
        })
        .await
    }

    /// What all routes read of a partition.
    pub(super) async fn of_partition(&self, id: &str, partition: &PartitionId) -> Result<Vec<Witness>, StoreError> {
        let content = self.with(id, |file, id| file.read(&id)).await?;
        let lists = content.lists.iter().filter(|list| list.partition == partition.as_str());
        let lists = lists.map(Stored::list).collect::<Result<Vec<_>, _>>()?;
        Ok(WitnessList::newest_first(&lists))
    }

    /// Forgets what a route read behind its checkpoint, which was set back.
    pub(super) async fn go_back_to(
        &self,
        id: &str,
        route: &RouteName,
        checkpoint: &Checkpoint,
    ) -> Result<(), StoreError> {
        let (route, checkpoint) = (route.to_string(), checkpoint.clone());
        self.change(id, move |content| {
            let is_it = |list: &&mut Stored| list.route == route && list.partition == checkpoint.partition.as_str();
            for stored in content.lists.iter_mut().filter(is_it) {
                let mut list = stored.list()?;
                list.go_back_to(&checkpoint.position);
                *stored = Stored::of(stored.route.clone(), stored.partition.clone(), &list);
            }
            Ok(())
        })
        .await
    }

    /// Forgets a route; of these partitions only, if some are named.
    pub(super) async fn forget(
        &self,
        id: &str,
        route: &RouteName,
        partitions: Option<&[PartitionId]>,
    ) -> Result<(), StoreError> {
        let (route, partitions) = (route.to_string(), partitions.map(<[PartitionId]>::to_vec));
        self.change(id, move |content| {
            let is_named = |name: &str| {
                partitions.as_ref().is_none_or(|partitions| partitions.iter().any(|known| known.as_str() == name))
            };
            content.lists.retain(|list| list.route != route || !is_named(&list.partition));
            Ok(())
        })
        .await
    }

    pub(super) async fn rename(&self, id: &str, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
        let (from, to) = (from.to_string(), to.to_string());
        self.change(id, move |content| {
            for list in content.lists.iter_mut().filter(|list| list.route == from) {
                list.route.clone_from(&to);
            }
            Ok(())
        })
        .await
    }

    /// The bookkeeping's id changes.
    pub(super) async fn renew_id(&self, id: &str, renewed: &str) -> Result<(), StoreError> {
        let renewed = renewed.to_owned();
        self.change(id, move |content| {
            content.bookkeeping = renewed;
            Ok(())
        })
        .await
    }

    async fn change(
        &self,
        id: &str,
        change: impl FnOnce(&mut Content) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let _alone = self.changing.lock().await;
        self.with(id, |file, id| {
            let mut content = file.read(&id)?;
            change(&mut content)?;
            file.write(&content)
        })
        .await
    }

    /// Works on the file where that may block.
    async fn with<T: Send + 'static>(
        &self,
        id: &str,
        work: impl FnOnce(Self, String) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (file, id) = (self.clone(), id.to_owned());
        tokio::task::spawn_blocking(move || work(file, id)).await.unwrap_or_else(|error| {
            Err(StoreError::new(ErrorKind::Invalid, "a task of the witness file failed; please report it")
                .because(error))
        })
    }

    fn read(&self, id: &str) -> Result<Content, StoreError> {
        let empty = || Content { bookkeeping: id.to_owned(), ..Content::default() };
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == IoKind::NotFound => return Ok(empty()),
            Err(error) => return Err(self.failed("cannot be read", error)),
        };
        let content: Content = serde_json::from_str(&text).map_err(|error| self.damaged(error))?;
        if content.bookkeeping == id {
            return Ok(content);
        }
        let message = format!(
            "the witness file {} belongs to bookkeeping {}, not to this one, {id}: name another file, or move this one away \
             if that bookkeeping is gone for good",
            self.path.display(),
            content.bookkeeping
        );
        Err(StoreError::new(ErrorKind::Ownership, message))
    }

    /// Puts another file in its place, so that there is a whole one at any time.
    fn write(&self, content: &Content) -> Result<(), StoreError> {
        let text = serde_json::to_vec(content).map_err(|error| self.damaged(error))?;
        let mut name = self.path.as_os_str().to_owned();
        name.push(".new");
        let written = fs::File::create(&name).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_data()?;
            fs::rename(&name, &self.path)
        });
        written.map_err(|error| self.failed("cannot be written", error))
    }

    fn failed(&self, what: &str, error: std::io::Error) -> StoreError {
        let kind = match error.kind() {
            IoKind::StorageFull | IoKind::QuotaExceeded => ErrorKind::Full,
            IoKind::PermissionDenied | IoKind::ReadOnlyFilesystem => ErrorKind::NotPermitted,
            _ => ErrorKind::Unavailable,
        };
        let message = format!("the witness file {} {what}: {error}", self.path.display());
        StoreError::new(kind, message).because(error)
    }

    fn damaged(&self, error: serde_json::Error) -> StoreError {
        let message = format!(
            "the witness file {} is damaged: restore it, or remove it if you are sure that the database was not put back \
             from a backup",
            self.path.display()
        );
        StoreError::new(ErrorKind::Invalid, message).because(error)
    }
}

impl Stored {
    fn of(route: String, partition: String, list: &WitnessList) -> Self {
        let stored = |listed: &ListedWitness| {
            let Witness { position, commit } = &listed.witness;
            let commit = format!("{:032x}", u128::from_be_bytes(commit.0));
            (listed.number, listed.index, position.as_str().to_owned(), commit)
        };
        Self { route, partition, added: list.added(), witnesses: list.iter().map(stored).collect() }
    }

    fn list(&self) -> Result<WitnessList, StoreError> {
        let listed = |(number, index, position, commit): &(u64, u64, String, String)| {
            let commit = u128::from_str_radix(commit, 16).map_err(|error| {
                let message = "a witness in the witness file is damaged: restore the file from a backup";
                StoreError::new(ErrorKind::Invalid, message).because(error)
            })?;
            let witness = Witness { position: Position::new(position), commit: CommitId(commit.to_be_bytes()) };
            Ok(ListedWitness { number: *number, index: *index, witness })
        };
        Ok(WitnessList::stored(self.witnesses.iter().map(listed).collect::<Result<Vec<_>, StoreError>>()?, self.added))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str) -> RouteName {
        RouteName::new(name).unwrap()
    }

    fn entries() -> PartitionId {
        PartitionId::new("entries")
    }

    fn witness(number: u8) -> Witness {
        Witness { position: Position::new(number.to_string()), commit: CommitId([number; 16]) }
    }

    fn file() -> (tempfile::TempDir, WitnessFile) {
        let folder = tempfile::tempdir().unwrap();
        let file = WitnessFile::new(folder.path().join("witness.json"));
        (folder, file)
    }

    async fn positions(file: &WitnessFile) -> Vec<String> {
        let found = file.of_partition("books", &entries()).await.unwrap();
        found.iter().map(|witness| witness.position.to_string()).collect()
    }

    #[tokio::test]
    async fn what_was_noted_is_found_after_a_restart_newest_first() {
        let (folder, file) = file();
        assert!(positions(&file).await.is_empty());
        for number in 1..=3 {
            file.note("books", &route("a"), &entries(), &witness(number)).await.unwrap();
        }
        file.note("books", &route("b"), &entries(), &witness(2)).await.unwrap();
        let again = WitnessFile::new(folder.path().join("witness.json"));
        assert_eq!(positions(&again).await, ["2", "3", "1"]);
        assert_eq!(again.of_partition("books", &entries()).await.unwrap()[1], witness(3));
    }

    #[tokio::test]
    async fn it_follows_what_an_operator_does() {
        let (_folder, file) = file();
        for number in 1..=3 {
            file.note("books", &route("a"), &entries(), &witness(number)).await.unwrap();
            file.note("books", &route("b"), &entries(), &witness(number + 10)).await.unwrap();
        }
        let back = Checkpoint { partition: entries(), position: Position::new("2"), finished: false };
        file.go_back_to("books", &route("a"), &back).await.unwrap();
        file.forget("books", &route("b"), Some(&[PartitionId::new("other")])).await.unwrap();
        assert_eq!(positions(&file).await, ["13", "12", "2", "11", "1"]);
        file.rename("books", &route("a"), &route("c")).await.unwrap();
        file.forget("books", &route("a"), None).await.unwrap();
        file.forget("books", &route("b"), Some(&[entries()])).await.unwrap();
        assert_eq!(positions(&file).await, ["2", "1"]);
        file.renew_id("books", "others").await.unwrap();
        assert_eq!(file.of_partition("others", &entries()).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn the_file_of_another_bookkeeping_is_refused_and_left_as_it_is() {
        let (_folder, file) = file();
        file.note("books", &route("a"), &entries(), &witness(1)).await.unwrap();
        let error = file.note("others", &route("a"), &entries(), &witness(2)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Ownership);
        assert!(error.to_string().contains("witness.json") && error.to_string().contains("books"), "{error}");
        assert_eq!(positions(&file).await, ["1"]);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_or_written_is_named() {
        let (folder, file) = file();
        fs::write(folder.path().join("witness.json"), "{").unwrap();
        let damaged = file.of_partition("books", &entries()).await.unwrap_err();
        assert!(
            damaged.to_string().contains("is damaged") && damaged.to_string().contains("witness.json"),
            "{damaged}"
        );
        let nowhere = WitnessFile::new(folder.path().join("gone/witness.json"));
        let error = nowhere.note("books", &route("a"), &entries(), &witness(1)).await.unwrap_err();
        assert!(error.kind().retry() && error.to_string().contains("gone/witness.json"), "{error}");
    }
}
