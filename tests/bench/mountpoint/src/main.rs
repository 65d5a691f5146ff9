// SPDX-License-Identifier: MIT
//! mountpoint BUCKET DIR ENDPOINT: mounts a bucket with the library that Mountpoint for Amazon S3 is made of, set up as its
//! own program does by default, but that files may be removed and overwritten. Stays in front until it is unmounted.
use anyhow::{Context, Result};
use mountpoint_s3_client::config::AddressingStyle;
use mountpoint_s3_client::user_agent::UserAgent;
use mountpoint_s3_fs::data_cache::DataCacheConfig;
use mountpoint_s3_fs::fuse::config::{FuseOptions, FuseSessionConfig, MountPoint};
use mountpoint_s3_fs::memory::{CandidateSize, PagedPool};
use mountpoint_s3_fs::s3::config::{ClientConfig, MemoryLimitSetting, PartConfig, Region, TargetThroughputSetting};
use mountpoint_s3_fs::s3::{Bucket, Prefix, S3Path};
use mountpoint_s3_fs::{MountpointConfig, Runtime, S3FilesystemConfig, Superblock, SuperblockConfig};

const MEMORY: usize = 2 << 30;
const PART: usize = 8 << 20;
const THREADS: usize = 16;

fn main() -> Result<()> {
    let argument: Vec<String> = std::env::args().collect();
    let [_, bucket, dir, endpoint] = argument.as_slice() else {
        anyhow::bail!("usage: mountpoint BUCKET DIR ENDPOINT");
    };
    let client = ClientConfig {
        region: Region::new_user_specified("us-east-1".into()),
        endpoint_url: Some(endpoint.clone()),
        addressing_style: AddressingStyle::Path,
        dual_stack: false,
        transfer_acceleration: false,
        auth_config: Default::default(),
        requester_pays: false,
        expected_bucket_owner: None,
        throughput_target: TargetThroughputSetting::Default,
        bind: None,
        part_config: PartConfig::with_part_size(PART).validate(MemoryLimitSetting::Default(MEMORY))?,
        user_agent: UserAgent::new(None),
        tls_config: None,
    };
    let pool = PagedPool::config()
        .with_candidate_sizes([CandidateSize::new(PART)])
        .with_memory_limit(MEMORY)
        .build();
    let client = client.create_client(pool.clone(), None).context("no client")?;
    let config = S3FilesystemConfig { allow_delete: true, allow_overwrite: true, ..Default::default() };
    let path = S3Path::new(Bucket::new(bucket)?, Prefix::empty());
    let superblock = SuperblockConfig { cache_config: config.cache_config.clone(), s3_personality: config.s3_personality };
    let superblock = Superblock::new(client.clone(), path, superblock);
    let options = FuseOptions { read_only: false, allow_other: false, allow_root: false, auto_unmount: false, clone_fd: false };
    let session = FuseSessionConfig::new(MountPoint::new(dir)?, options, THREADS)?;
    let runtime = Runtime::new(client.event_loop_group());
    MountpointConfig::new(session, config, DataCacheConfig::default())?
        .create_fuse_session(superblock, client, runtime, pool)
        .context("no session")?
        .join()
}
