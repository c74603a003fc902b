{
  'target_defaults': {
    'defines': ['_GNU_SOURCE'],
    # Of node's own OpenSSL.
    'defines!': ['OPENSSL_THREADS'],
    'include_dirs': ['native/include', 'native'],
    'cflags!': ['-O3'],
    'cflags': [
      '-O2',
      '-fPIC',
      '-fvisibility=hidden',
      '-ffunction-sections',
      '-fdata-sections',
      '-Wall',
      '-Wextra',
      '-Wshadow',
      '<!@(node scripts/gyp.cjs compiler-flags)',
    ],
    'cflags_c': ['-std=c11'],
    'configurations': {
      'Release': {
        'cflags!': ['-O3', '-fno-omit-frame-pointer'],
        'ldflags': ['-Wl,-s'],
      },
      'Debug': {
        'cflags!': ['-O2'],
        'cflags': ['-O1', '-g'],
        'defines': ['VALK_DEBUG=1'],
      },
    },
  },
  'targets': [
    {
      'target_name': 'valk_core',
      'type': 'static_library',
      'sources': ['<!@(node scripts/gyp.cjs sources)'],
      # Node's headers bring its own OpenSSL along. The core is compiled against the headers of the libraries it is
      # linked with, and takes from Node uv.h alone.
      'include_dirs!': [
        '<(node_root_dir)/include/node',
        '<(node_root_dir)/src',
        '<(node_root_dir)/deps/openssl/config',
        '<(node_root_dir)/deps/openssl/openssl/include',
        '<(node_root_dir)/deps/uv/include',
        '<(node_root_dir)/deps/zlib',
        '<(node_root_dir)/deps/v8/include',
      ],
      'include_dirs': [
        '<!@(node scripts/gyp.cjs uv-include "<(node_root_dir)")',
        '<!@(node scripts/gyp.cjs includes)',
      ],
    },
    {
      'target_name': 'valk_aio',
      'dependencies': ['valk_core'],
      'sources': ['native/binding/addon.cc', 'native/binding/wrap_stderr.c'],
      'include_dirs': ['<!(node -p "require(\'node-addon-api\').include_dir")'],
      'defines': [
        'NAPI_VERSION=8',
        'NAPI_DISABLE_CPP_EXCEPTIONS',
        'NODE_ADDON_API_DISABLE_DEPRECATED',
        # Functions that fail since their worker is being terminated return; the process goes on.
        'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
      ],
      'cflags_cc': ['-fno-exceptions'],
      'libraries': ['<!@(node scripts/gyp.cjs libraries)', '-ldl', '-pthread'],
      'ldflags': [
        '<!@(node scripts/gyp.cjs linker-flags)',
        # Two exported symbols: the engine runs in its own OpenSSL and nghttp2, never in those that node exports.
        '-Wl,--version-script=<(module_root_dir)/native/binding/exports.map',
        '-Wl,--exclude-libs,ALL',
        '-Wl,-Bsymbolic',
        # AWS-LC leaves weak names open by which its heap can be replaced: no other addon fills them in.
        '-Wl,-z,nodynamic-undefined-weak',
        '-Wl,--gc-sections',
        '-Wl,-z,relro',
        '-Wl,-z,now',
        # A worker that ends would unload the addon under the engine's threads.
        '-Wl,-z,nodelete',
        '-Wl,--wrap=stderr',
      ],
    },
  ],
}
