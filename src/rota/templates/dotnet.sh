#!/usr/bin/env bash
# /// script
# [tool.rota]
# description = "@project@: .NET, with tests"
# scm = { git = "@git@", branch = "@branch@" }  #: git branch
# scm = "@git@"  #: git !branch
# on = [ { push = "@branch@" } ]  #: git branch
# labels = "dotnet>=@dotnet@"  #: !container !matrix
# labels = "dotnet={dotnet}"  #: !container matrix
# image = "mcr.microsoft.com/dotnet/sdk:@dotnet@.0"  #: container !matrix
# image = "mcr.microsoft.com/dotnet/sdk:{dotnet}.0"  #: container matrix
# timeout = "45m"
# caches = [ { key = "nuget-{hash:@in@**/packages.lock.json}", restore = ["nuget-"], paths = ["~/.nuget/packages"] } ]  #: lock
# caches = [ { key = "nuget-{hash:@in@**/*.*proj}", restore = ["nuget-"], paths = ["~/.nuget/packages"] } ]  #: !lock
# tests = ["@in@**/TestResults/*.junit.xml"]  #: junit
# coverage = ["@in@**/TestResults/*/coverage.cobertura.xml"]  #: coverage
# artifacts = ["@in@**/bin/Release/*.nupkg"]  #: pack
#
# [tool.rota.params]
# args = { default = "", description = "further arguments of dotnet build, such as -p:Version=1.2" }
#
# [tool.rota.matrix]  #: matrix
# dotnet = ["@dotnet_axis@"]  #: matrix
#  #: matrix
# ///
# shellcheck disable=SC2154,SC2086  # parameters are variables, and $args may be many words
set -euo pipefail
cd @path@  #: path

export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1

dotnet restore --locked-mode  #: lock
dotnet restore  #: !lock
dotnet build --no-restore --configuration Release $args

# Add the package JunitXml.TestLogger to the test projects, and rota shows each test:  #: !junit
#   --logger 'junit;LogFilePath=TestResults/{assembly}.junit.xml'  #: !junit
dotnet test --no-build --configuration Release  #: !junit !coverage
dotnet test --no-build --configuration Release --collect 'XPlat Code Coverage'  #: !junit coverage
dotnet test --no-build --configuration Release --logger 'junit;LogFilePath=TestResults/{assembly}.junit.xml'  #: junit !coverage
dotnet test --no-build --configuration Release --logger 'junit;LogFilePath=TestResults/{assembly}.junit.xml' --collect 'XPlat Code Coverage'  #: junit coverage
